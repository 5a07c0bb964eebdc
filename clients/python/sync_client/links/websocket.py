"""The link over a WebSocket."""

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

from sync_client.events import Lost
from sync_client.frames import Frame, Message
from sync_client.links.port import MAX_FRAME_BYTES, OPEN_S, LinkLostError, refusal
from sync_client.wire import CODECS, JSON, Codec


class _Direct(connect):
    """A connection to the server that was named: the handshake carries a token, so it follows nobody elsewhere."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class WebSocketLink:
    """Open it with `WebSocketLink.open`."""

    has_heartbeat = True

    def __init__(self, connection: ClientConnection, codec: Codec) -> None:
        self._connection = connection
        self._codec = codec

    @classmethod
    async def open(cls, url: str, codec: Codec) -> "WebSocketLink":
        """
        Args:
            codec: the one to offer; a server that does not know it speaks JSON.

        Raises:
            LinkLostError
        """
        try:
            connection = await _Direct(
                url,
                subprotocols=[Subprotocol(codec.subprotocol)],
                compression=None,
                open_timeout=OPEN_S,
                ping_interval=None,  # the protocol has a heartbeat of its own
                close_timeout=1,
                max_size=MAX_FRAME_BYTES,
                user_agent_header="sync-client",
            )
        except InvalidStatus as refused:
            answer = refused.response
            retry_after = answer.headers.get("Retry-After")
            raise LinkLostError(refusal(answer.status_code, retry_after, "to a WebSocket")) from None
        except InvalidHandshake:
            raise LinkLostError(Lost("something that is no WebSocket server answered", is_odd=True)) from None
        except TimeoutError:
            raise LinkLostError(Lost("the server does not answer", is_odd=True)) from None
        except OSError as error:
            raise LinkLostError(Lost(f"the server cannot be reached: {_reason(error)}")) from None
        except WebSocketException:
            raise LinkLostError(Lost("the connection was cut while it was opened", is_odd=True)) from None
        return cls(connection, CODECS.get(connection.subprotocol or "", JSON))

    async def send(self, message: Message) -> None:
        try:
            await self._connection.send(self._codec.encode(message))
        except ConnectionClosed as closed:
            raise LinkLostError(_closed(closed)) from None

    async def receive(self) -> Frame:
        try:
            return self._codec.decode(await self._connection.recv())
        except ConnectionClosed as closed:
            raise LinkLostError(_closed(closed)) from None

    async def close(self) -> None:
        await self._connection.close()


def _closed(closed: ConnectionClosed) -> Lost:
    frame = closed.rcvd
    if frame is None:
        return Lost("the connection was cut", is_odd=True)
    return Lost(frame.reason or f"the server closed the connection ({frame.code})", code=frame.code)


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
