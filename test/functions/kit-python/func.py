"""The test function in Python: see ../kits.go for what it does."""

import json
import time

from serve import serve


def handle(call, body):
    ask = json.loads(body) if body else {}
    if ask.get("print"):
        print(ask["print"])
    if ask.get("fail"):
        raise RuntimeError("the test wants it to fail")
    if ask.get("sleepMs"):
        time.sleep(ask["sleepMs"] / 1000)
    answer = {"language": "python", "echo": ask.get("echo"), "callID": call.id}
    if call.is_http:
        answer.update(method=call.method, url=call.url, client=call.client_header("X-Client"))
        call.status = ask.get("status") or 200
    call.set_header("X-Language", "python")
    return json.dumps(answer)


if __name__ == "__main__":
    serve(handle)
