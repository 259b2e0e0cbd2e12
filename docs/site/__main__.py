"""Builds the site: python docs/site FOLDER. A warning or a dead link fails the build."""

import sys
from pathlib import Path

import pages
import pictures
from sphinx.cmd.build import main

target = Path(sys.argv[1])
pages.write(target / "source")
pictures.draw(target / "source" / "pictures")
options = ["-W", "--keep-going", "-q", "-j", "2", "-c", str(Path(__file__).parent)]
sys.exit(main([*options, str(target / "source"), str(target / "html")]))
