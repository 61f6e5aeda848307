"""Takes an archive as `cargo binstall` does: by what the metadata of the binary's package say of its name and of what is in it.

    cargo metadata --no-deps --format-version 1 | python3 .ci/binstall.py FOLDER TARGET
"""

import json
import pathlib
import subprocess
import sys
import tarfile
import tempfile

folder, target = sys.argv[1:]
packages = json.load(sys.stdin)["packages"]
(package,) = [package for package in packages if package["name"] == "mycelium-cli"]
binstall = package["metadata"]["binstall"]


def filled(template, **more):
    values = {"name": package["name"], "version": package["version"], "target": target, "binary-ext": "", **more}
    for name, value in values.items():
        template = template.replace("{ " + name + " }", value)
    assert "{" not in template, f"unknown to this script: {template}"
    return template


assert binstall["pkg-fmt"] == "tgz"
url = filled(binstall["pkg-url"], repo="https://example.org/mycelium")
archive = pathlib.Path(folder, url.rsplit("/", 1)[1])
assert archive.is_file(), f"{archive.name} is not among {sorted(path.name for path in archive.parent.iterdir())}"
program = filled(binstall["bin-dir"], bin="mycelium")
with tempfile.TemporaryDirectory() as scratch, tarfile.open(archive) as tar:
    names = tar.getnames()
    root = program.split("/", 1)[0]
    assert all(name.split("/", 1)[0] == root for name in names), "everything is in one folder"
    for needed in ["LICENSE-APACHE", "LICENSE-MIT", "man/mycelium-serve.1", "completions/mycelium.bash", "mycelium.toml"]:
        assert f"{root}/{needed}" in names, f"{needed} is missing in {archive.name}"
    tar.extract(program, scratch)
    said = subprocess.run([pathlib.Path(scratch, program), "--version"], check=True, capture_output=True, text=True).stdout
    assert said == f"mycelium {package['version']}\n", said
print(f"{archive.name} is as cargo binstall takes it")
