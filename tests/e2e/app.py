"""The application behind Doorward: one that knows nothing of OpenID and believes X-Forwarded-User.

It writes the identity headers of each request, as they arrived, as one JSON line to $APP_LOG.
"""

import asyncio
import html
import json
import os

from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, StreamingResponse

app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
log = open(os.environ["APP_LOG"], "a", buffering=1)

# What the test holds back until it calls /release.
gate = asyncio.Event()

BLOCK = bytes(64 * 1024)


class Record:
    """One line a request, written before the application sees it; streams pass through untouched."""

    def __init__(self, inner):
        self.inner = inner

    async def __call__(self, scope, receive, send):
        if scope["type"] in ("http", "websocket"):
            headers = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]]
            method = scope.get("method", "WEBSOCKET")
            log.write(json.dumps({"method": method, "path": scope["path"], "headers": headers}) + "\n")
        await self.inner(scope, receive, send)


app.add_middleware(Record)


@app.get("/release")
async def release():
    gate.set()
    return PlainTextResponse("released")


@app.get("/hold")
async def hold():
    gate.clear()
    return PlainTextResponse("held")


@app.get("/events")
async def events():
    async def stream():
        yield "data: first\n\n"
        await gate.wait()
        yield "data: second\n\n"

    return StreamingResponse(stream(), media_type="text/event-stream", headers={"cache-control": "no-store"})


@app.get("/cookie")
async def cookie(line: str):
    return PlainTextResponse("set", headers={"set-cookie": line})


@app.get("/cacheable")
async def cacheable():
    return PlainTextResponse("the same for everybody", headers={"cache-control": "public, max-age=86400"})


@app.websocket("/ws")
async def echo(socket: WebSocket):
    await socket.accept()
    user = socket.headers.get("x-forwarded-user", "")
    try:
        while True:
            await socket.send_text(f"{user}: {await socket.receive_text()}")
    except WebSocketDisconnect:
        pass


@app.post("/upload")
async def upload(request: Request):
    count = 0
    async for chunk in request.stream():
        count += len(chunk)
    return JSONResponse({"bytes": count, "user": request.headers.get("x-forwarded-user")})


# How much of the last download has left the application.
sent = 0


@app.get("/sent")
async def how_much():
    return JSONResponse(sent)


@app.get("/download")
async def download(bytes: int, gated: bool = False):
    global sent
    # Before the head of the answer: whoever has that sees nothing of the download before.
    sent = 0

    async def stream():
        global sent
        left = bytes
        while left > 0:
            if gated and left <= bytes // 2:
                await gate.wait()
            size = min(left, len(BLOCK))
            yield BLOCK[:size]
            left -= size
            sent += size

    return StreamingResponse(stream(), media_type="application/octet-stream")


@app.api_route("/{path:path}", methods=["GET", "POST"])
async def page(path: str, request: Request):
    def header(name):
        return html.escape(request.headers.get(name, ""))

    query = f"?{request.url.query}" if request.url.query else ""
    return HTMLResponse(
        f"""<!doctype html><html lang="en"><title>Legacy app</title>
<h1>Legacy app</h1>
<p>Page <code id="page">{html.escape("/" + path + query)}</code></p>
<p>User <b id="user">{header("x-forwarded-user")}</b></p>
<p>E-mail <b id="email">{header("x-forwarded-email")}</b></p>
<p>Groups <b id="groups">{header("x-forwarded-groups")}</b></p>
<p><a href="/oauth2/sign_out">Sign out</a></p>""",
        headers={"cache-control": "no-store"},
    )
