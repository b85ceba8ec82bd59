"""The hello-python function answers {"name":"Ada"} with {"message":"Hello Ada"}."""

import json
import sys

from serve import serve


def hello(call, body):
    name = "World"
    try:
        name = json.loads(body).get("name") or name
    except (ValueError, AttributeError) as e:
        # A body that is empty or no JSON object greets the world.
        if body:
            print("ignoring the request body:", e, file=sys.stderr)
    return json.dumps({"message": "Hello " + name})


if __name__ == "__main__":
    serve(hello)
