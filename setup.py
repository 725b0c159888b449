"""Installs the package, its commands, and beside them samples and man pages (under share/)."""

import os
import re
from glob import glob

from setuptools import find_packages, setup

ROOT = os.path.dirname(os.path.abspath(__file__))


def read(path: str) -> str:
    """A file of this checkout."""
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def manual() -> list[tuple[str, list[str]]]:
    """Each man page in the folder of its section."""
    return [(f"share/man/man{section}", sorted(glob(f"docs/man/*.{section}"))) for section in (1, 5, 8)]


def samples(folder: str) -> tuple[str, list[str]]:
    """The files of etc/ or cgi-bin/."""
    return f"share/bdserver/{folder}", sorted(path for path in glob(f"{folder}/*") if os.path.isfile(path))


setup(
    name="bdserver",
    version=re.findall(r'^__version__ = "(.+)"$', read("bdserver/__init__.py"), re.MULTILINE)[0],
    description="A service mesh for plain Unix hosts, without a central server",
    long_description=read("README.md"),
    long_description_content_type="text/markdown",
    author="The BDserver authors",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=find_packages(include=["bdserver", "bdserver.*"]),
    include_package_data=False,
    package_data={"": ["templates/*", "services/*"], "bdserver": ["py.typed"]},
    data_files=[*manual(), samples("etc"), samples("cgi-bin")],
    # What pip makes of an entry point starts with all that is installed: these two begin without (commands/short.py).
    scripts=["bin/bdwhereis", "bin/bdctl"],
    entry_points={
        "console_scripts": [
            f"{command} = bdserver.commands.{command}:main" for command in ("bdserverd", "bdkeys", "bdgateway", "bddemo")
        ]
    },
    # What the package imports, at the least with which its tests pass: Debian 12's, but for its Pillow (9.4 needs DejaVu).
    # .ci/requirements.txt pins what they ran with last.
    install_requires=[
        "pyOpenSSL>=23.0",
        "cryptography>=38.0.4",
        "python-daemon>=2.3.2",
        "filelock>=3.9",
        "setproctitle>=1.3",
        "Jinja2>=3.1",
        "MarkupSafe>=2.1",
        "pillow>=10.1",
        "pydot>=1.4.2",
        "prometheus_client>=0.16",
        "dnspython>=2.3",
        "waitress>=2.1.2",
    ],
    classifiers=[
        "Environment :: No Input/Output (Daemon)",
        "Intended Audience :: System Administrators",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: System :: Clustering",
        "Topic :: System :: Networking",
        "Typing :: Typed",
    ],
)
