"""``python -m medptq.installation``: print what this Python has as one line of JSON."""

import sys

from medptq.installation.facts import facts

if __name__ == "__main__":
    sys.stdout.write(facts().to_json() + "\n")
