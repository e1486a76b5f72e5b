#!/usr/bin/env python3
"""A NameNode and a DataNode in a directory, with RPC and WebHDFS on loopback, for tests.

    hdfs.py start DIR [--port 9000] [--http-port 9870]
    hdfs.py stop DIR

`start` prints the URLs. The classes of Hadoop 2.7.3 come from PyPI: they lie in the source archive of pyspark 2.4.8
(220 MB, fetched once; 30 MB of it are kept in ~/.cache/modelfs-tests). WebHDFS also needs jars of Debian packages, and
all of it Java (tools/install-deps.sh tests). Everything it starts writes its process id into DIR.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import daemons

# Of the user, not of $HOME, which tests have moved.
CACHE = Path(pwd.getpwuid(os.getuid()).pw_dir) / ".cache" / "modelfs-tests" / "hadoop-2.7.3"
ARCHIVE = "pyspark==2.4.8"
# Its setup.py is of 2021. The archive is only unpacked, but pip insists on asking it for its metadata.
CONSTRAINTS = "setuptools<66\npypandoc<1.8\n"
JARS = re.compile(
    r"(commons-(cli|codec|collections|configuration|io|lang|logging)|guava|hadoop-(annotations|auth|common|hdfs)"
    r"|htrace-core|http(client|core)|jackson-(core|mapper)-asl|javax\.servlet-api|jetty(-util)?|jsp-api|leveldbjni-all"
    r"|log4j|netty(-all)?|protobuf-java|slf4j-(api|log4j12)|xercesImpl|xmlenc)-\d.*\.jar"
)
DEBIAN_JARS = (
    *("FastInfoset", "asm-all", "commons-daemon", "istack-commons-runtime", "javax.activation", "jaxb-api"),
    *(
        "jaxb-core",
        "jaxb-runtime",
        "jersey1-core",
        "jersey1-server",
        "jersey1-servlet",
        "jsr311-api",
        "stax-ex",
        "txw2",
    ),
)
DEBIAN = Path("/usr/share/java")
# Little memory and a quick start count here, not throughput.
JAVA = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "--add-opens=java.base/java.lang=ALL-UNNAMED")
DAEMONS = {"namenode": "namenode.NameNode", "datanode": "datanode.DataNode"}
LOG = """\
log4j.rootLogger=INFO,E
log4j.appender.E=org.apache.log4j.ConsoleAppender
log4j.appender.E.target=System.err
log4j.appender.E.layout=org.apache.log4j.PatternLayout
log4j.appender.E.layout.ConversionPattern=%d %p %c: %m%n
"""


def missing_programs() -> list[str]:
    """What has to be installed before `start` can work."""
    missing = [] if shutil.which("java") else ["java"]
    return missing + [f"{DEBIAN}/{name}.jar" for name in DEBIAN_JARS if not (DEBIAN / f"{name}.jar").exists()]


def fetch() -> Path:
    """The directory with Hadoop's jars, downloaded when they are not here. RuntimeError with the reason."""
    CACHE.parent.mkdir(parents=True, exist_ok=True)
    with (CACHE.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not CACHE.exists():
            with tempfile.TemporaryDirectory(dir=CACHE.parent) as name:
                _unpack(_download(Path(name)), Path(name) / "jars")
                (Path(name) / "jars").rename(CACHE)
    return CACHE


def start(directory: Path, port: int, http_port: int) -> tuple[str, str]:
    """Start both and return their URLs, hdfs:// and webhdfs://. RuntimeError with the reason when they do not run."""
    if missing := missing_programs():
        raise RuntimeError(f"not installed: {', '.join(missing)}")
    jars = fetch()
    for empty in ("hdfs", "datanode"):  # their status pages, without which they do not start
        (directory / "classes" / "webapps" / empty / "WEB-INF").mkdir(parents=True, exist_ok=True)
        (directory / "classes" / "webapps" / empty / "WEB-INF" / "web.xml").write_text("<web-app/>")
    (directory / "classes" / "log4j.properties").write_text(LOG)
    settings = {
        "fs.defaultFS": f"hdfs://127.0.0.1:{port}",
        "dfs.namenode.http-address": f"127.0.0.1:{http_port}",
        "dfs.namenode.name.dir": directory / "names",
        "dfs.namenode.safemode.extension": 0,
        "dfs.namenode.edits.noeditlogchannelflush": "true",
        "dfs.datanode.data.dir": directory / "blocks",
        "dfs.datanode.address": "127.0.0.1:0",
        "dfs.datanode.http.address": "127.0.0.1:0",
        "dfs.datanode.ipc.address": "127.0.0.1:0",
        "dfs.datanode.hostname": "127.0.0.1",
        "dfs.replication": 1,
        "dfs.ls.limit": 20,  # so that a short listing has several pages
        "dfs.heartbeat.interval": 1,
    }
    for name in ("core-site.xml", "hdfs-site.xml"):
        lines = (f"<property><name>{key}</name><value>{value}</value></property>" for key, value in settings.items())
        (directory / "classes" / name).write_text(f"<configuration>{''.join(lines)}</configuration>")
    path = [str(directory / "classes"), f"{jars}/*", *(str(DEBIAN / f"{name}.jar") for name in DEBIAN_JARS)]
    java = ["java", *JAVA, "-cp", ":".join(path)]
    with (directory / "format.log").open("w") as log:
        command = [*java, "org.apache.hadoop.hdfs.server.namenode.NameNode", "-format", "-nonInteractive"]
        if subprocess.run(command, stdout=log, stderr=log, check=False, timeout=120).returncode:
            raise RuntimeError(f"the NameNode could not be formatted: {directory}/format.log")
    for name, kind in DAEMONS.items():
        with (directory / f"{name}.log").open("w") as log:
            command = [*java, f"org.apache.hadoop.hdfs.server.{kind}"]
            process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        (directory / f"{name}.pid").write_text(str(process.pid))
    _wait_for(http_port, directory)
    return f"hdfs://127.0.0.1:{port}", f"webhdfs://127.0.0.1:{http_port}"


def stop(directory: Path) -> None:
    """Stop what `start` started; nothing happens where nothing runs."""
    for name in DAEMONS:
        daemons.kill(directory / f"{name}.pid")


def _download(directory: Path) -> Path:
    (directory / "constraints").write_text(CONSTRAINTS)
    constraints = {name: str(directory / "constraints") for name in ("PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT")}
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
    command += ["--no-deps", "--no-binary", "pyspark", "--dest", str(directory), ARCHIVE]
    done = subprocess.run(
        command, env={**os.environ, **constraints}, capture_output=True, text=True, check=False, timeout=600
    )
    found = list(directory.glob("pyspark-*.tar.gz"))
    if done.returncode or not found:
        raise RuntimeError(f"{ARCHIVE} cannot be downloaded: {' '.join(done.stderr.split())[-300:]}")
    return found[0]


def _unpack(archive: Path, target: Path) -> None:
    """Only the jars that a NameNode and a DataNode load."""
    target.mkdir()
    with tarfile.open(archive) as tar:
        for member in tar:
            name = Path(member.name).name
            wanted = "/deps/jars/" in member.name and JARS.fullmatch(name)
            if wanted and (data := tar.extractfile(member)):
                (target / name).write_bytes(data.read())


def _wait_for(http_port: int, directory: Path) -> None:
    """Until the NameNode has left its safe mode and knows the DataNode."""
    question = f"http://127.0.0.1:{http_port}/jmx?qry=Hadoop:service=NameNode,name=FSNamesystemState"
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        with contextlib.suppress(urllib.error.URLError, OSError, ValueError, IndexError, KeyError):
            with urllib.request.urlopen(question, timeout=2) as answer:
                state = json.load(answer)["beans"][0]
            if state["FSState"] == "Operational" and state["NumLiveDataNodes"] == 1:
                return
        time.sleep(0.1)
    raise RuntimeError(f"HDFS did not come up within 90 s; its logs are in {directory}")


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=9000)
    parser.add_argument("--http-port", type=int, default=9870)
    return daemons.command_line(
        parser, lambda directory, given: "  ".join(start(directory, given.port, given.http_port)), stop
    )


if __name__ == "__main__":
    sys.exit(main())
