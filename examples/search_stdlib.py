"""
Semantic search over the documentation of Python's standard library: `python examples/search_stdlib.py "parse command line options"`.

Needs the extra `embed`; nothing is downloaded at run time. The parts are in the directory stdlib_search beside this file.
"""

import sys

from stdlib_search.command import main

if __name__ == "__main__":
    sys.exit(main())
