"""Every benchmark, one after the other."""

from bench import catch_up, client, first_sync, growth, memory, operations, pushes
from bench.figures import parse_extent, run


def main() -> None:
    extent = parse_extent("Every benchmark, one after the other.")
    for module in (operations, pushes, first_sync, catch_up, memory, growth, client):
        run(module.TITLE, module.measure, extent)


if __name__ == "__main__":
    main()
