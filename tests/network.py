"""Watches child processes for connections and look-ups that leave this machine, native ones too.

A small library, compiled here and loaded before all others, notes and refuses them. Without a C
compiler, or elsewhere than on Linux, nothing is watched.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from functools import cached_property
from pathlib import Path

import pytest

_SOURCE = r"""
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void note(const char *what, const char *host) {
  char line[512];
  int length = snprintf(line, sizeof line, "%s of %s\n", what, host);
  int file = open(getenv("NETWORK_ATTEMPTS"), O_WRONLY | O_APPEND | O_CREAT, 0600);
  if (file < 0 || write(file, line, length) != length) abort();
  close(file);
}

static int stays(const struct sockaddr *address) {
  char text[INET6_ADDRSTRLEN] = "";
  if (address && address->sa_family == AF_INET) {
    const struct sockaddr_in *v4 = (const void *)address;
    if (ntohl(v4->sin_addr.s_addr) >> 24 == 127 || !v4->sin_addr.s_addr) return 1;
    inet_ntop(AF_INET, &v4->sin_addr, text, sizeof text);
  } else if (address && address->sa_family == AF_INET6) {
    const struct sockaddr_in6 *v6 = (const void *)address;
    if (IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr) || IN6_IS_ADDR_UNSPECIFIED(&v6->sin6_addr)) return 1;
    inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof text);
  } else {
    return 1;
  }
  note("connection", text);
  errno = ENETUNREACH;
  return 0;
}

int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                struct addrinfo **found) {
  int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
      dlsym(RTLD_NEXT, "getaddrinfo");
  if (host && strcmp(host, "localhost") && strncmp(host, "127.", 4) && strcmp(host, "::1")) {
    note("look-up", host);
    return EAI_FAIL;
  }
  return real(host, service, hints, found);
}

int connect(int file, const struct sockaddr *address, socklen_t length) {
  int (*real)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "connect");
  return stays(address) ? real(file, address, length) : -1;
}

ssize_t sendto(int file, const void *data, size_t size, int flags, const struct sockaddr *address,
               socklen_t length) {
  ssize_t (*real)(int, const void *, size_t, int, const struct sockaddr *, socklen_t) =
      dlsym(RTLD_NEXT, "sendto");
  return stays(address) ? real(file, data, size, flags, address, length) : -1;
}
"""


class NetworkWatch:
    """What child processes try to reach beside this machine."""

    @cached_property
    def _folder(self) -> Path:
        return Path(tempfile.mkdtemp(prefix="network-watch-"))

    @cached_property
    def _library(self) -> Path | None:
        if sys.platform != "linux" or shutil.which("cc") is None:
            return None
        library = self._folder / "watch.so"
        command = ["cc", "-shared", "-fPIC", "-xc", "-", "-ldl", "-o", library]
        subprocess.run(command, input=_SOURCE, text=True, check=True)
        return library

    def environment(self) -> dict[str, str]:
        """The environment for a child: watched, without what quietens libraries in tests."""
        quietens = ("CI", "HF_HUB_OFFLINE", "ORT_DISABLE_TELEMETRY")
        environment = {k: value for k, value in os.environ.items() if k not in quietens}
        if self._library is None:
            return environment
        return environment | {
            "LD_PRELOAD": str(self._library),
            "NETWORK_ATTEMPTS": str(self._folder / "attempts"),
        }

    def require(self) -> None:
        """Skip the test where nothing can be watched."""
        if self._library is None:
            pytest.skip("needs Linux and a C compiler")

    def attempts(self) -> list[str]:
        """What was tried since it was last asked."""
        notes = self._folder / "attempts"
        lines = notes.read_text().splitlines() if notes.exists() else []
        notes.unlink(missing_ok=True)
        return lines


watch = NetworkWatch()
