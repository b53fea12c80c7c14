"""Prints a token for the consumer "schemathesis" that is valid for an hour, signed with JWT_SECRET."""

import base64
import hmac
import json
import os
import time


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


claims = {"sub": "schemathesis", "exp": int(time.time()) + 3600}
signed = encode(b'{"alg":"HS256"}') + b"." + encode(json.dumps(claims).encode())
print((signed + b"." + encode(hmac.digest(os.environ["JWT_SECRET"].encode(), signed, "sha256"))).decode())
