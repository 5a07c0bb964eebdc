"""`python run_server.py` is `sync-server serve`; any other command of it can be given as well."""

from sync_server.cli import main

if __name__ == "__main__":
    main(default_command="serve")
