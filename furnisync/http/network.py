"""How this machine reaches the internet: proxies and certificate authorities, as it was told.

| variable                    | what it says                                           |
| --------------------------- | ------------------------------------------------------ |
| `https_proxy`, `http_proxy` | the proxy for addresses of that scheme                 |
| `all_proxy`                 | the proxy where there is none for the scheme           |
| `no_proxy`                  | hosts, domains, networks (CIDR) reached without one    |
| `SSL_CERT_FILE`             | a file of authorities to trust, not the system's       |
| `SSL_CERT_DIR`              | folders of more authorities, as `openssl rehash` makes |

Names of proxy variables may be in upper case too; the lower case wins. Everything is checked here,
before the first request, and passed to libcurl, so that it reads none of these by itself.
"""

import os
import re
import ssl
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pycurl

from furnisync.errors import ConfigError

__all__ = ["DIRECT", "Network", "export_network", "read_network"]

_PROXY_SCHEMES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")
_ANY_SCHEME = pycurl.U_NON_SUPPORT_SCHEME | pycurl.U_GUESS_SCHEME
_NAMED = "://, ".join(_PROXY_SCHEMES[:-1]) + f":// or {_PROXY_SCHEMES[-1]}://"


class Network(msgspec.Struct, frozen=True):
    """Proxies and certificate authorities; empty strings where nothing is said.

    Its `repr` hides all of it: addresses of proxies may hold a password.

    Attributes:
        http_proxy: for http:// addresses.
        https_proxy: for https:// addresses.
        no_proxy: what is reached without a proxy, separated by commas, in libcurl's form.
        ca_file: authorities to trust, in PEM form.
        ca_dirs: folders of authorities, separated by colons.
    """

    http_proxy: str = ""
    https_proxy: str = ""
    no_proxy: str = ""
    ca_file: str = ""
    ca_dirs: str = ""

    def proxy_for(self, url: str) -> str:
        """The proxy for the scheme of `url`, before `no_proxy` is considered; empty for none."""
        return self.https_proxy if url[:6].lower() == "https:" else self.http_proxy

    def describe(self) -> str:
        """What https:// addresses are reached with, in words and without passwords."""
        if self.https_proxy:
            proxy = pycurl.CurlUrl(self.https_proxy, _ANY_SCHEME)
            proxy.user = proxy.password = None
            words = f"proxy {proxy.url}"
            words += f", but not for {self.no_proxy}" if self.no_proxy else ""
        else:
            words = "no proxy"
        places = [one for one in (self.ca_file, self.ca_dirs) if one]
        return f"{words}; certificates of {' and '.join(places) or 'the system'}"

    def __repr__(self) -> str:
        return "Network(hidden)"

    __str__ = __repr__


DIRECT = Network()
"""No proxy, and the system's certificate authorities."""


def read_network(environ: Mapping[str, str]) -> Network:
    """Read and check the variables, of the environment or `.env`.

    Raises:
        ConfigError: one names a proxy that is none, or certificates that cannot be read.
    """
    every = _proxy("all_proxy", environ)
    return Network(
        http_proxy=_proxy("http_proxy", environ) or every,
        https_proxy=_proxy("https_proxy", environ) or every,
        no_proxy=_no_proxy(_either_case("no_proxy", environ)[1]),
        ca_file=_ca_file(environ),
        ca_dirs=_ca_dirs(environ),
    )


def export_network(variables: Mapping[str, str]) -> None:
    """Let libraries that read only the process's environment use the same proxies and authorities.

    These are Apprise for notices and fsspec for backups. `.env` is no part of their environment,
    and `requests`, on which many of them stand, knows `SSL_CERT_FILE` by another name.
    """
    for name, value in variables.items():
        os.environ.setdefault(name, value)
    if authorities := variables.get("SSL_CERT_FILE"):
        os.environ.setdefault("REQUESTS_CA_BUNDLE", authorities)


def _either_case(name: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """The variable that counts and its value; an empty one is as good as none."""
    lower = environ.get(name, "").strip()
    return (name, lower) if lower else (name.upper(), environ.get(name.upper(), "").strip())


def _proxy(name: str, environ: Mapping[str, str]) -> str:
    variable, value = _either_case(name, environ)
    if not value:
        return ""
    # The value is not shown: it may hold a password.
    try:
        scheme = pycurl.CurlUrl(value, _ANY_SCHEME).scheme
    except pycurl.error as error:
        raise _not_a_proxy(variable, str(error.args[-1])) from None
    except UnicodeEncodeError:
        raise _not_a_proxy(variable, "it is not ASCII") from None
    if scheme not in _PROXY_SCHEMES:
        raise _not_a_proxy(variable, f"there are no {scheme}:// proxies")
    return value


def _not_a_proxy(variable: str, reason: str) -> ConfigError:
    return ConfigError(
        f"{variable} does not name a proxy ({reason}): set it to an address that begins with"
        f" {_NAMED}, or unset it."
    )


def _no_proxy(value: str) -> str:
    """Bring what other programs accept (`*.example.com`, `[::1]`) into libcurl's form."""
    return ",".join(re.sub(r"^\*(?=\.)|[\[\]]", "", one) for one in re.split(r"[,\s]+", value))


def _ca_file(environ: Mapping[str, str]) -> str:
    path = environ.get("SSL_CERT_FILE", "")
    if path:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
        except OSError as error:  # errors of ssl are OSErrors
            reason = "not PEM" if isinstance(error, ssl.SSLError) else error.strerror
            raise ConfigError(
                f"SSL_CERT_FILE is {path!r}, where no certificates can be read ({reason}): name a"
                " file of certificates in PEM form, or unset it to trust the system's."
            ) from error
    return path


def _ca_dirs(environ: Mapping[str, str]) -> str:
    value = environ.get("SSL_CERT_DIR", "")
    if value and not any(Path(one).is_dir() for one in value.split(os.pathsep) if one):
        raise ConfigError(
            f"SSL_CERT_DIR is {value!r}, which is not a folder: name a folder of certificates that"
            " `openssl rehash` prepared, or unset it to trust the system's."
        )
    return value
