"""The bill of materials of a wheel: a CycloneDX document in its `.dist-info/sboms` (PEP 770)."""

import json
import re
import subprocess
import sys
import tempfile
from email.parser import Parser
from pathlib import Path


def add_sbom(wheel):
    """Put the document into a wheel, in place; its record of files is made anew."""
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run([sys.executable, "-m", "wheel", "unpack", "--dest", scratch, wheel], check=True)
        (unpacked,) = Path(scratch).iterdir()
        (info,) = unpacked.glob("*.dist-info")
        (info / "sboms").mkdir()
        document = _document(Parser().parsestr((info / "METADATA").read_text()))
        (info / "sboms" / "fastembed.cdx.json").write_text(json.dumps(document, indent=1) + "\n")
        wheel.unlink()
        subprocess.run([sys.executable, "-m", "wheel", "pack", "--dest-dir", wheel.parent, unpacked], check=True)


def _document(metadata):
    """What the wheel is and what it needs at run time; it contains no code of others."""
    name, version = metadata["Name"], metadata["Version"]
    needed = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    names = [re.match(r"[\w.-]+", line)[0] for line in needed]
    package = f"pkg:pypi/{name}@{version}"
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {
            "type": "library", "bom-ref": package, "name": name, "version": version, "purl": package,
            "licenses": [{"expression": metadata["License-Expression"]}],
        }},
        "components": [
            {"type": "library", "bom-ref": f"pkg:pypi/{other}", "name": other, "purl": f"pkg:pypi/{other}", "scope": "required"}
            for other in names
        ],
        "dependencies": [{"ref": package, "dependsOn": [f"pkg:pypi/{other}" for other in names]}],
    }  # fmt: skip
