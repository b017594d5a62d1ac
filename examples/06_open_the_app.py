"""The web app from Python: a model, its queue, and a page for every browser.

    python examples/06_open_the_app.py [MODEL]

Prints where the page is and shows it until Enter is pressed. MODEL is a folder or a hub id; the model of the package if
left out. Writes nothing.
"""

import sys
from urllib.request import urlopen

from motiongpt3 import MotionGPT3
from motiongpt3.app.web import WebApp
from motiongpt3.service.engine import Engine

engine = Engine(MotionGPT3.from_pretrained(*sys.argv[1:2]))
app = WebApp(engine, port=0)
print("open", app.url)
print("it answers with", urlopen(app.url, timeout=60).status)
if sys.stdin.isatty():
    input("Enter ends it. ")
app.stop()
engine.close(finish=False)
