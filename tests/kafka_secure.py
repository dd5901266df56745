"""A real Apache Kafka that asks who you are and what you may: TLS, SCRAM, client certificates, access rules.

Maven → [kafka secure] → contract suite, how-to

One listener for each way in: `secure` (SASL_SSL, SCRAM-SHA-512), `tokens` (SASL_SSL, OAUTHBEARER: any token that has not expired,
signed by nobody), `mutual` (TLS with a client's certificate), `expired` and
`misnamed` (SASL_SSL with a certificate that must be refused), and the open `bootstrap`, whose clients may do everything.
"""

from __future__ import annotations

import atexit
import datetime as dt
import ipaddress
import shutil
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialDeletion,
    UserScramCredentialUpsertion,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import kafka_broker
from kafka_broker import BrokerMissing, KafkaBroker, fetched_jars

LISTENERS = ("secure", "mutual", "expired", "misnamed", "tokens")
ADMIN, ADMIN_PASSWORD = "admin", "admin-secret-81f2"
REQUEST_SECONDS = 15


class Certificate(NamedTuple):
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def key_pem(self) -> str:
        plain = serialization.NoEncryption()
        return self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain).decode()


def authority(name: str = "Test authority") -> Certificate:
    """A certificate that signs others."""
    return _certificate(name, None, [], is_authority=True)


def signed(by: Certificate, name: str, names: Sequence[str] = (), *, is_expired: bool = False) -> Certificate:
    """A certificate of a broker (with the names and addresses that it goes by) or of a client."""
    return _certificate(name, by, names, is_expired=is_expired)


def _certificate(
    name: str, by: Certificate | None, names: Sequence[str], *, is_authority: bool = False, is_expired: bool = False
) -> Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    begin, end = (now - dt.timedelta(days=days) for days in ((9, 2) if is_expired else (1, -9)))
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    )
    if names:
        alternatives = [_alternative(one) for one in names]
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return Certificate(builder.sign(by.key if by else key, hashes.SHA256()), key)


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


class SecureBroker(KafkaBroker):
    """Nobody may do anything that no rule allows, but the super users."""

    def __init__(self, jars: Path, directory: Path) -> None:
        self.directory = directory
        self._ports = {name: kafka_broker.free_port() for name in LISTENERS}
        self.secure, self.mutual, self.expired, self.misnamed, self.tokens = (
            f"127.0.0.1:{port}" for port in self._ports.values()
        )
        self.authority = authority()
        self.ca = self._kept("ca.pem", self.authority.pem)
        self.other_ca = self._kept("other-ca.pem", authority("Somebody else").pem)
        self._make_keystores()
        super().__init__(jars, directory)

    def client_certificate(self, name: str) -> tuple[Path, Path]:
        """Certificate and key of a client: files."""
        made = signed(self.authority, name)
        return self._kept(f"{name}.pem", made.pem), self._kept(f"{name}.key", made.key_pem)

    def admin(self) -> AdminClient:
        """Who may do everything."""
        return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})

    def add_user(self, name: str, password: str) -> None:
        """With SCRAM-SHA-512; brokers know it when this returns."""
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        credential = UserScramCredentialUpsertion(name, info, password.encode())
        admin = self.admin()
        for future in admin.alter_user_scram_credentials([credential]).values():
            future.result(REQUEST_SECONDS)

    def remove_user(self, name: str) -> None:
        """Whoever is in stays in until the connection ends."""
        admin = self.admin()
        deletion = UserScramCredentialDeletion(name, ScramMechanism.SCRAM_SHA_512)
        for future in admin.alter_user_scram_credentials([deletion]).values():
            future.result(REQUEST_SECONDS)

    def allow(self, user: str, kind: ResourceType, name: str, *operations: str, is_prefix: bool = False) -> None:
        """Rules for a user."""
        admin = self.admin()
        for future in admin.create_acls([_rule(user, kind, name, one, is_prefix) for one in operations]).values():
            future.result(REQUEST_SECONDS)

    def take_away(self, user: str, kind: ResourceType, name: str, *operations: str) -> None:
        """The rules for this user and name, or those with the operations that are given."""
        wanted = [AclOperation[one.upper()] for one in operations] or [AclOperation.ANY]
        filters = [
            AclBindingFilter(
                kind, name, ResourcePatternType.ANY, f"User:{user}", None, operation, AclPermissionType.ANY
            )
            for operation in wanted
        ]
        admin = self.admin()
        for future in admin.delete_acls(filters).values():
            assert future.result(REQUEST_SECONDS), f"there was no rule for {user} on {name}"

    def without_topics(self, *names: str) -> None:
        """As a fresh cluster is; other tests of the session may have made them."""
        admin = self.admin()
        there = [name for name in names if name in admin.list_topics(timeout=REQUEST_SECONDS).topics]
        for future in admin.delete_topics(there).values() if there else ():
            future.result(REQUEST_SECONDS)
        end = time.monotonic() + REQUEST_SECONDS
        while left := set(names) & set(admin.list_topics(timeout=REQUEST_SECONDS).topics):
            assert time.monotonic() < end, f"deleted and still there: {left}"
            time.sleep(0.1)

    def tools(self) -> Path:
        """A directory with Kafka's own command-line tools, as a distribution has them in `bin`."""
        place = self.directory / "bin"
        place.mkdir(exist_ok=True)
        for name, main in TOOLS.items():
            script = place / name
            java = " ".join(f"'{word}'" for word in self._java(main))
            script.write_text(f'#!/bin/sh\nexec {java} "$@"\n')
            script.chmod(0o755)
        return place

    def _make_keystores(self) -> None:
        here = ("localhost", "127.0.0.1")
        self._keystore("secure", signed(self.authority, "broker", here))
        self._keystore("tokens", signed(self.authority, "broker", here))
        self._keystore("mutual", signed(self.authority, "broker", here))
        self._keystore("expired", signed(self.authority, "broker", here, is_expired=True))
        self._keystore("misnamed", signed(self.authority, "broker", ["kafka.example"]))

    def _keystore(self, name: str, certificate: Certificate) -> None:
        self._kept(f"{name}-keystore.pem", certificate.key_pem + certificate.pem + self.authority.pem)

    def _kept(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.write_text(text)
        path.chmod(0o600)
        return path

    def _settings(self) -> str:
        base = super()._settings()
        for key, more in {
            "listeners": [f"{name.upper()}://127.0.0.1:{port}" for name, port in self._ports.items()],
            "advertised.listeners": [f"{name.upper()}://127.0.0.1:{port}" for name, port in self._ports.items()],
            "listener.security.protocol.map": [
                f"{name.upper()}:{'SSL' if name == 'mutual' else 'SASL_SSL'}" for name in LISTENERS
            ],
        }.items():
            base = base.replace(f"\n{key}=", f"\n{key}={','.join(more)},")
        return base + AUTHORIZER + "".join(self._listener(name) for name in self._ports)

    def _listener(self, name: str) -> str:
        kind = "listener.name." + name
        lines = [
            f"{kind}.ssl.keystore.type=PEM",
            f"{kind}.ssl.keystore.location={self.directory}/{name}-keystore.pem",
            f"{kind}.ssl.truststore.type=PEM",
            f"{kind}.ssl.truststore.location={self.ca}",
        ]
        if name == "mutual":
            lines += [f"{kind}.ssl.client.auth=required", f"{kind}.ssl.principal.mapping.rules=RULE:^CN=([^,]+).*$/$1/"]
        elif name == "tokens":
            login = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required"
            lines += [
                f"{kind}.sasl.enabled.mechanisms=OAUTHBEARER",
                f'{kind}.oauthbearer.sasl.jaas.config={login} unsecuredLoginStringClaim_sub="{ADMIN}";',
                f"{kind}.oauthbearer.connections.max.reauth.ms=60000",  # a connection ends with its token, unless renewed
            ]
        else:
            login = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            lines += [
                f"{kind}.sasl.enabled.mechanisms=SCRAM-SHA-512",
                f"{kind}.scram-sha-512.sasl.jaas.config={login}",
            ]
        return "\n".join(lines) + "\n"


AUTHORIZER = f"""\
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:{ADMIN}
allow.everyone.if.no.acl.found=false
"""
TOOLS = {
    "kafka-acls.sh": "org.apache.kafka.tools.AclCommand",
    "kafka-configs.sh": "kafka.admin.ConfigCommand",
    "kafka-console-consumer.sh": "org.apache.kafka.tools.consumer.ConsoleConsumer",
}


def _rule(user: str, kind: ResourceType, name: str, operation: str, is_prefix: bool = False) -> AclBinding:
    pattern = ResourcePatternType.PREFIXED if is_prefix else ResourcePatternType.LITERAL
    return AclBinding(
        kind, name, pattern, f"User:{user}", "*", AclOperation[operation.upper()], AclPermissionType.ALLOW
    )


@cache
def secure_broker() -> SecureBroker:
    """One for all tests of a session; fails the test with one line where none can be had."""
    try:
        jars = fetched_jars()
    except BrokerMissing as missing:
        reason = str(missing)
    else:
        return _started(jars)
    pytest.fail(reason, pytrace=False)


def _started(jars: Path) -> SecureBroker:
    directory = Path(tempfile.mkdtemp(prefix="penstock-secure-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    broker = SecureBroker(jars, directory)
    broker.start()
    broker.add_user(ADMIN, ADMIN_PASSWORD)
    return broker
