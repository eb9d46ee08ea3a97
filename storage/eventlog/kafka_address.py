"""The address of an event log in Kafka: brokers, topic and client settings; secrets stay out of every text."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import parse_qsl

from bespoke.errors import ConfigError

FORM = "kafka://HOST:PORT[,HOST:PORT]/TOPIC[?SETTING=VALUE&...]"
OWN_SETTINGS = frozenset(
    {
        "acks",
        "auto.offset.reset",
        "bootstrap.servers",
        "delivery.timeout.ms",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "enable.idempotence",
        "enable.partition.eof",
        "group.id",
        "isolation.level",
        "message.timeout.ms",
        "request.required.acks",
        "transactional.id",
    }
)
"""What the log's guarantees rest on: an address may not set it."""

_SERVER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.-]+):\d{1,5}")
_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}")
_SECRET = re.compile(r"password|secret|key\.pem|oauthbearer|jaas", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class KafkaAddress:
    """Where a log is, and how clients connect."""

    servers: str
    """Brokers to ask first, ``host:port`` with commas."""
    topic: str
    settings: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    """Settings of the client library, such as ``security.protocol``."""

    @classmethod
    def parse(cls, address: str) -> "KafkaAddress":
        """Read ``kafka://HOST:PORT[,HOST:PORT]/TOPIC[?SETTING=VALUE&...]``.

        Raises:
            ConfigError: it is not of that form, or sets what the log decides itself.
        """
        place, _, query = address.removeprefix("kafka://").partition("?")
        servers, _, topic = place.partition("/")
        if "@" in servers:
            # Not repeated in the message: what stands before the @ is a password, as a rule.
            raise ConfigError(
                "event log: a Kafka address takes no user before its hosts; add ?sasl.username=...&sasl.password=..."
            )
        if not all(_SERVER.fullmatch(server) for server in servers.split(",")) or not _TOPIC.fullmatch(topic):
            raise ConfigError(f"event log: got {'kafka://' + place!r}, expected {FORM}")
        settings = dict(parse_qsl(query, keep_blank_values=True))
        if refused := sorted(OWN_SETTINGS & settings.keys()):
            raise ConfigError(
                f"event log kafka://{place}: {', '.join(refused)} cannot be set, the log's guarantees rest on it; "
                "take it out of the address"
            )
        return cls(servers, topic, MappingProxyType(settings))

    def __str__(self) -> str:
        """Return the address without its settings, fit for logs."""
        return f"kafka://{self.servers}/{self.topic}"

    def without_secrets(self, text: str) -> str:
        """Return ``text`` with the values of secret settings blotted out."""
        for name, value in self.settings.items():
            if value and _SECRET.search(name):
                text = text.replace(value, "***")
        return text
