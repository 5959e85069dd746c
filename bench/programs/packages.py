"""Sources from package registries, by name and exact version, through the registries' ordinary clients."""

import hashlib
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path


class PackageError(Exception):
    """A package could not be had, or is not the one that was asked for."""


@dataclass(frozen=True)
class Package:
    """One source archive, as the client saves it, and the folder of it that is wanted."""

    client: str  # "npm" or "pip"
    name: str
    version: str
    archive: str
    sha256: str
    member: str

    def fetch(self, directory: Path) -> Path:
        """Download (unless it is there), verify and unpack into ``directory``; return the wanted folder."""
        downloads, unpacked = directory / "downloads", directory / f"{self.name}-{self.version}"
        archive = downloads / self.archive
        if not archive.exists():
            downloads.mkdir(parents=True, exist_ok=True)
            print(f"downloading {self.name} {self.version}", flush=True)
            self._download(downloads)
        found = hashlib.sha256(archive.read_bytes()).hexdigest()
        if found != self.sha256:
            raise PackageError(f"{archive}: its sha256 is {found}, not {self.sha256}")
        if not unpacked.exists():
            partial = directory / f"{unpacked.name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            with tarfile.open(archive) as tar:
                tar.extractall(partial, filter="data")
            partial.rename(unpacked)
        return unpacked / self.member

    def _download(self, downloads: Path) -> None:
        if self.client == "npm":
            if not shutil.which("npm"):
                raise PackageError(f"{self.name} comes from npm, which is not installed")
            command = ["npm", "pack", "--silent", f"{self.name}@{self.version}"]
        else:
            # pip reads a source package's metadata by running its setup; what that needs goes elsewhere.
            command = [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-deps",
                "--no-binary",
                self.name,  # and not ":all:": what its setup needs may be built already
            ]
            command.append(f"{self.name}=={self.version}")
        done = subprocess.run(
            command, cwd=downloads, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if done.returncode or not (downloads / self.archive).exists():
            raise PackageError(f"{' '.join(command)} failed:\n{done.stdout}")


SQLITE = Package(
    client="npm",
    name="better-sqlite3",
    version="12.11.1",
    archive="better-sqlite3-12.11.1.tgz",
    sha256="ebf0ed75a7a59dbcb3b24bbd014ef49d9f15bc328e4adcbf516f2a8fadfa2835",
    member="package/deps/sqlite3",
)
LUA = Package(
    client="pip",
    name="lupa",
    version="2.8",
    archive="lupa-2.8.tar.gz",
    sha256="d8022641b9ec8ecf2c5ecbe9f47e5a70e0b87c4b5ae921b92cb02a638e0acd08",
    member="lupa-2.8/third-party/lua54",
)
ZSTD = Package(
    client="pip",
    name="zstandard",
    version="0.25.0",
    archive="zstandard-0.25.0.tar.gz",
    sha256="7713e1179d162cf5c7906da876ec2ccb9c3a9dcbdffef0cc7f70c3667a205f0b",
    member="zstandard-0.25.0/zstd",
)
