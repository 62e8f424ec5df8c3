"""An application that believes no header: it verifies the signed assertion with PyJWT, as its documentation shows.

It answers every request with the claims, or with 401 and the reason.
"""

import os

import jwt
from fastapi import FastAPI, Header
from fastapi.responses import JSONResponse

ISSUER = os.environ["ISSUER"]
AUDIENCE = os.environ["AUDIENCE"]

app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
# The tests take a moment for what takes a day: hence no cooldown.
keys = jwt.PyJWKClient(f"{ISSUER}/oauth2/.well-known/jwks.json", cooldown_duration=0)


@app.get("/{path:path}")
def who(path: str, x_doorward_assertion: str = Header(default="")):
    try:
        key = keys.get_signing_key_from_jwt(x_doorward_assertion)
        claims = jwt.decode(
            x_doorward_assertion,
            key,
            algorithms=["ES256"],
            audience=AUDIENCE,
            issuer=ISSUER,
            options={"require": ["exp", "iat", "sub", "jti"]},
        )
    except jwt.PyJWTError as error:
        return JSONResponse({"error": type(error).__name__}, status_code=401)
    header = jwt.get_unverified_header(x_doorward_assertion)
    return JSONResponse({"claims": claims, "header": header, "token": x_doorward_assertion})
