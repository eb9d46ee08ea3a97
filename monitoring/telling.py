"""Telling people of alerts: the log, a signed post, a mail."""

import logging
import os
import smtplib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from urllib.parse import quote

import httpx
import orjson

from bespoke.errors import BespokeError, ConfigError
from monitoring.alert_rules import LOG, AlertRule, Channel
from storage.control import Alert
from storage.webhooks import post_signed

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Teller:
    """Tells those whom rules name."""

    channels: Mapping[str, Channel]

    def tell(self, rule: AlertRule, alert: Alert, *, at: datetime) -> list[str]:
        """Tell everybody that a rule names; return what went wrong, by name."""
        problems = []
        for name in rule.notify:
            try:
                self._tell(name, rule, alert, at=at)
            except (BespokeError, httpx.HTTPError, OSError, ValueError, smtplib.SMTPException) as error:
                problems.append(f"{name}: {type(error).__name__}: {error}")
                logger.warning("alert %s could not be told to %s: %s", alert.name, name, error)
        return problems

    def _tell(self, name: str, rule: AlertRule, alert: Alert, *, at: datetime) -> None:
        if name == LOG:
            logger.warning("alert %s: %s", _title(alert), alert.words)
            return
        channel = self.channels[name]
        if channel.url is not None:
            _post(channel, _told(rule, alert), alert, at=at)
        else:
            _mail(channel, alert)


def _title(alert: Alert) -> str:
    return f"{alert.name} ({alert.subject})" if alert.subject else alert.name


def _told(rule: AlertRule, alert: Alert) -> dict[str, object]:
    return {
        "alert": alert.name,
        "metric": rule.metric,
        "subject": alert.subject,
        "value": alert.value,
        "words": alert.words,
        "since": alert.since.isoformat(),
        "action": None if rule.action is None else rule.action.job,
    }


def _post(channel: Channel, told: Mapping[str, object], alert: Alert, *, at: datetime) -> None:
    message_id = f"alert-{alert.name}-{quote(alert.subject)}-{int(at.timestamp())}"
    with httpx.Client() as client:
        post_signed(
            client,
            str(channel.url),
            orjson.dumps(told),
            secret=_secret(channel.secret_env).encode(),
            message_id=message_id,
            at=at,
            timeout_s=channel.timeout_s,
        )


def _mail(channel: Channel, alert: Alert) -> None:
    assert channel.smtp_host is not None and channel.sender is not None
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = channel.sender, ", ".join(channel.to), f"Bespoke: {_title(alert)}"
    mail.set_content(f"{alert.words}\n\nOn since {alert.since:%Y-%m-%d %H:%M} UTC.\n")
    with smtplib.SMTP(channel.smtp_host, channel.smtp_port, timeout=channel.timeout_s) as server:
        if channel.starttls:
            server.starttls()
        if channel.user is not None:
            server.login(channel.user, _secret(channel.password_env))
        server.send_message(mail)


def _secret(variable: str | None) -> str:
    value = os.environ.get(variable or "")
    if not value:
        raise ConfigError(f"the variable {variable} is not set, which config/alerts.toml names")
    return value
