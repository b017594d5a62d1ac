"""Motions over HTTP: start the service, ask it for a file and for JSON. Only the first half needs motiongpt3.

    python examples/04_ask_the_service.py [MODEL]

Writes served.bvh. MODEL is a folder or a hub id; the model of the package if left out.
"""

import json
import subprocess
import sys
from urllib.request import Request, urlopen

command = [sys.executable, "-m", "motiongpt3.cli.main", "serve", "--port", "0"]
service = subprocess.Popen(command + [f"--model={name}" for name in sys.argv[1:2]], stdout=subprocess.PIPE, text=True)
url = service.stdout.readline().strip()  # printed when it is ready


def ask(path, body, accept="application/json"):
    """The bytes of an answer."""
    headers = {"Content-Type": "application/json", "Accept": accept}
    with urlopen(Request(url + path, json.dumps(body).encode(), headers), timeout=60) as answer:
        return answer.read()


try:
    with open("served.bvh", "wb") as file:
        file.write(ask("/v1/generate", {"prompt": "a person walks forward", "seconds": 4}, "application/x-bvh"))
    answer = json.loads(ask("/v1/generate", {"prompt": ["a person jumps", "somebody bows"], "seconds": 2}))
    for motion in answer["motions"]:
        print(motion["caption"], motion["seed"], motion["frames"], motion["joints"][0][0])
finally:
    service.terminate()  # it finishes what runs
    service.wait()
