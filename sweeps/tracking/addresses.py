"""Addresses of databases and servers, as they are opened and as they may be shown."""

import re
from urllib.parse import urlsplit


def with_driver(url: str) -> str:
    """The URL with the driver that is installed here: sqlalchemy's choice for PostgreSQL has changed."""
    scheme, separator, place = url.partition("://")
    return f"postgresql+psycopg2://{place}" if separator and scheme in ("postgres", "postgresql") else url


def without_password(url: str) -> str:
    """The URL as it may be shown and written down."""
    url = re.sub(r"(?i)(password=)[^&]*", r"\1***", url)
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(no URL)"
    if "@" not in parts.netloc:
        return url
    user, _, place = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user.partition(':')[0]}@{place}").geturl()
