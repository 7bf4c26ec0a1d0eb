"""uvicorn's WebSocket protocol, with a shutdown that lets the running work of a connection finish."""

from __future__ import annotations

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from mlx_host.api.websockets import SHUTDOWN


class DrainingWebSocketProtocol(WebSocketsSansIOProtocol):
    """Announces the shutdown to the application instead of closing the connection.

    uvicorn would close the connection at once, in the middle of a response. The application closes it when its running
    work has finished; see `mlx_host.api.http.FrameReader`.
    """

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # The library sends no response to a handshake that it cannot parse.
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self.transport.close()

    def shutdown(self) -> None:
        if self.handshake_complete and not self.close_sent:
            self.queue.put_nowait({"type": "websocket.disconnect", "code": 1001, "reason": SHUTDOWN})
        else:
            super().shutdown()
