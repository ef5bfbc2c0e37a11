"""
Print the commands of a README: the lines of its ```sh blocks, in order.
"""

import sys
from pathlib import Path

inside = False
commands: list[str] = []
for line in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines():
    if line.startswith("```"):
        inside = line == "```sh"
    elif inside:
        commands.append(line)
if not commands:
    sys.exit(f"{sys.argv[1]} has no ```sh block")
print("\n".join(commands))
