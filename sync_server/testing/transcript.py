"""What happened in a run, a line for each thing, for people to read."""

from collections.abc import Iterator

from sync_server.testing.history import (
    Event,
    Got,
    Granted,
    Happened,
    Json,
    Opened,
    Pried,
    Read,
    Restored,
    Sent,
    Trimmed,
    Wrote,
)
from sync_server.testing.runs import Run

QUIET = {"ping", "pong", "handshake", "auth"}
WIDTH = 160


def transcript(run: Run) -> Iterator[str]:
    for device in run.plan.devices:
        store = "a file" if device.has_file else "memory"
        yield f"  {device.name}: user {device.user}, {' or '.join(device.links)}, {device.codec}, store in {store}"
    yield ""
    for event in run.history.events:
        for text in _lines(event):
            line = f"{event.at:9.3f} s  {text}"
            yield line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…"


def _lines(event: Event) -> Iterator[str]:
    match event:
        case Wrote(_, device, what, key, marks):
            yield f"{device} {what} {key.entity_type} {key.entity_id[-6:]} {' '.join(marks)}"
        case Opened(_, device, link, kind):
            yield f"{device} opens link {link} ({kind})"
        case Sent(_, device, _, message):
            yield from (f"{device} sends {text}" for text in _told(message))
        case Got(_, device, _, message):
            yield from (f"{device} hears {text}" for text in _told(message))
        case Read(_, _, device, key, version):
            yield f"{device} reads {key.entity_id[-6:]} over HTTP: version {version}"
        case Pried(_, _, user, what, told=(status, _)):
            yield f"user {user} asks {what}: {status}"
        case Granted(_, _, user, _, role, is_sure):
            yield f"user {user} is {'' if is_sure else 'perhaps '}{role or 'no member any more'} of the shared space"
        case Trimmed() | Restored() | Happened():
            yield _fault(event)


def _fault(event: Trimmed | Restored | Happened) -> str:
    match event:
        case Trimmed():
            return f"the server has forgotten its log up to seq {event.floor}"
        case Restored():
            return f"the server goes on from its backup of {event.backup_at:.3f} s"
        case Happened():
            return f"{event.who} {event.what}"


def _told(message: Json) -> Iterator[str]:
    match message["type"]:
        case "sync":
            for one in message["data"]["operations"]:
                fields = one.get("changes") or one.get("data") or ""
                base = one.get("before_version")
                yield f"{one['operation_type']} {_id(one)} over version {base} {fields} (#{one['operation_id'][-6:]})"
        case "sync_response":
            for one in message["data"]["operation_results"]:
                again = ", again" if one.get("duplicate") else ""
                what = f"{one.get('verdict')} by {one.get('rule')}, version {one.get('new_version')}{again}"
                yield f"#{one['operation_id'][-6:]}: {what} {one.get('error') or ''}"
        case "server_updates":
            yield from (_row(update) for update in message["updates"])
        case "server_update":
            yield _row({**message, **message["update_data"]})
        case "reset":
            yield f"reset of {message['space_id'] or 'everything'}: {message['reason']}"
        case kind if kind not in QUIET:
            yield str(kind)


def _row(update: Json) -> str:
    reason = f" ({update['reason']})" if update.get("reason") else ""
    data = {name: value for name, value in (update["data"] or {}).items() if name != "id"}
    return f"seq {update['seq']}: {update['operation_type']} {_id(update)} version {update['version']} {data}{reason}"


def _id(entity: Json) -> str:
    return str(entity.get("entity_id") or "a new one")[-6:]
