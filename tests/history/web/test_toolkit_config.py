"""`--web.config.file`: TLS, client certificates and users, over real connections; read again when it changes."""

import asyncio
import base64
import datetime
import os
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from exporter.exposition import MetricsPage
from exporter.latest import Board
from exporter.web.app import Application
from history.web.server import Server
from history.web.toolkit_config import WebConfig, WebConfigError

Key = ec.EllipticCurvePrivateKey


def certificate(
    folder: Path, name: str, by: tuple[x509.Certificate, Key] | None = None
) -> tuple[x509.Certificate, Key]:
    """Make a certificate of `localhost`, or an authority's own, and write it with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if by is None else by[0].subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=by is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    )
    made = builder.sign(key if by is None else by[1], hashes.SHA256())
    (folder / f"{name}.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / f"{name}.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return made, key


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    authority = certificate(tmp_path, "ca")
    for name in ("server", "client"):
        certificate(tmp_path, name, authority)
    return tmp_path


def hashed(password: str) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()


@pytest.fixture
def serve(folder: Path) -> Iterator[object]:
    servers: list[Server] = []

    def start(text: str) -> tuple[WebConfig, str]:
        path = folder / "web.yml"
        path.write_text(text)
        secured = WebConfig(path)
        board = Board()
        server = Server(("127.0.0.1", 0), Application(board, MetricsPage(board, None, 9), "/metrics", "x", secured))
        server.start()
        servers.append(server)
        return secured, f"{server.scheme}://localhost:{server.port}/-/healthy"

    yield start
    for server in servers:
        server.stop()


TLS = "tls_server_config: {cert_file: server.crt, key_file: server.key}\n"


def test_tls_and_certificates_of_clients(serve: object, folder: Path) -> None:
    assert callable(serve)
    _, url = serve(TLS)
    assert url.startswith("https") and requests.get(url, verify=folder / "ca.crt").status_code == 200
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(url)
    _, url = serve(TLS.replace("}", ", client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.crt}"))
    with pytest.raises(requests.exceptions.ConnectionError):
        requests.get(url, verify=folder / "ca.crt")
    mine = (folder / "client.crt", folder / "client.key")
    assert requests.get(url, verify=folder / "ca.crt", cert=tuple(map(str, mine))).status_code == 200


def test_users_and_headers(serve: object) -> None:
    assert callable(serve)
    users = f"basic_auth_users: {{alice: '{hashed('secret')}'}}\n"
    _, url = serve(users + "http_server_config: {headers: {X-Frame-Options: deny}}\n")
    refused = requests.get(url)
    assert refused.status_code == 401 and refused.headers["WWW-Authenticate"] == "Basic"
    for wrong in (("alice", "x"), ("bob", "secret"), ("", "")):
        assert requests.get(url, auth=wrong).status_code == 401
    for header in ("Basic !!!", "Bearer x", "Basic"):
        assert requests.get(url, headers={"Authorization": header}).status_code == 401
    for _ in range(2):
        right = requests.get(url, auth=("alice", "secret"))
        assert right.status_code == 200 and right.headers["X-Frame-Options"] == "deny"


def test_who_guesses_is_in_nobodys_way(serve: object) -> None:
    """30 clients that guessed made the right one wait for more than 10 s."""
    assert callable(serve)
    slow = bcrypt.hashpw(b"secret", bcrypt.gensalt(11)).decode()
    _, url = serve(f"basic_auth_users: {{alice: '{slow}'}}\n")
    assert requests.get(url, auth=("alice", "secret"), timeout=10).status_code == 200
    stop = threading.Event()
    answers: Counter[int] = Counter()

    def guess(number: int) -> None:
        while not stop.is_set():
            answers[requests.get(url, auth=("alice", f"wrong{number}"), timeout=30).status_code] += 1

    threads = [threading.Thread(target=guess, args=(number,)) for number in range(30)]
    for each in threads:
        each.start()
    try:
        time.sleep(1)
        for _ in range(10):
            assert requests.get(url, auth=("alice", "secret"), timeout=5).status_code == 200
    finally:
        stop.set()
        for each in threads:
            each.join()
    assert answers.keys() == {401, 429} and answers[429] > answers[401]


def test_a_new_client_is_let_in_beside_many_that_guess(folder: Path) -> None:
    """A Prometheus whose password had not been seen since the start found no place among eight that guessed."""
    path = folder / "web.yml"
    path.write_text(f"basic_auth_users: {{alice: '{hashed('secret')}'}}\n")
    secured = WebConfig(path)
    right, wrong = (b"Basic " + base64.b64encode(b"alice:" + each) for each in (b"secret", b"x"))

    async def ask() -> list[list[bool | None]]:
        found = []
        for _ in range(2):
            guesses = [secured.admits_from(f"10.0.0.{number}", wrong) for number in range(8)]
            found.append(await asyncio.gather(*guesses, secured.admits_from("10.0.0.8", wrong)))
        guesses = [secured.admits_from(f"10.0.0.{number}", wrong) for number in range(9)]
        return [*found, await asyncio.gather(*guesses, secured.admits_from("10.0.1.1", right))]

    first, again, beside = asyncio.run(ask())
    assert first == [False] * 9  # nobody had guessed yet
    assert again == [False] * 8 + [None]
    assert beside == [False] * 8 + [None, True]


def test_what_is_known_stays_known_when_the_file_is_read_again(folder: Path) -> None:
    path = folder / "web.yml"
    users = f"basic_auth_users: {{alice: '{hashed('secret')}', bob: '{hashed('other')}'}}\n"
    path.write_text(users)
    secured = WebConfig(path)
    alice, bob = (b"Basic " + base64.b64encode(each) for each in (b"alice:secret", b"bob:other"))
    assert secured.admits(alice) and secured.admits(bob)
    path.write_text(users.partition(", bob")[0] + "}\n")
    assert secured.refresh()
    assert secured._at_once(alice) is True and not secured.admits(bob)


def test_who_is_not_known_is_refused_as_slowly_as_who_is(folder: Path) -> None:
    path = folder / "web.yml"
    dear = bcrypt.hashpw(b"y", bcrypt.gensalt(6)).decode()
    path.write_text(f"basic_auth_users: {{a: '{hashed('x')}', b: '{dear}'}}\n")
    secured = WebConfig(path)
    found = secured._at_once(b"Basic " + base64.b64encode(b"nobody:x"))
    assert not isinstance(found, bool)
    _, _, unknown, there = found
    assert unknown.startswith(b"$2b$06$") and not there and not bcrypt.checkpw(b"x", unknown)
    assert secured.admits(b"Basic " + base64.b64encode(b"b:y")) and not secured.admits(b"Basic eA==")


def test_it_is_read_again_when_it_changes(serve: object, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert callable(serve)
    secured, url = serve(TLS + f"basic_auth_users: {{alice: '{hashed('one')}'}}\n")
    assert requests.get(url, verify=folder / "ca.crt", auth=("alice", "one")).status_code == 200
    assert not secured.refresh()
    served = ssl.get_server_certificate(("localhost", int(url.split(":")[2].split("/")[0])))
    authority = certificate(folder, "ca")
    certificate(folder, "server", authority)
    (folder / "web.yml").write_text(TLS + f"basic_auth_users: {{alice: '{hashed('two')}'}}\n")
    assert secured.refresh()
    assert requests.get(url, verify=folder / "ca.crt", auth=("alice", "two")).status_code == 200
    assert requests.get(url, verify=folder / "ca.crt", auth=("alice", "one")).status_code == 401
    assert ssl.get_server_certificate(("localhost", int(url.split(":")[2].split("/")[0]))) != served
    (folder / "web.yml").write_text("basic_auth_users: [")
    os.utime(folder / "web.yml", (1, 1))
    assert not secured.refresh() and "the one before stays" in caplog.text
    assert requests.get(url, verify=folder / "ca.crt", auth=("alice", "two")).status_code == 200


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tls_server_confg: {}", "unknown key `tls_server_confg`; did you mean `tls_server_config`?"),
        ("tls_server_config: {cert_file: server.crt, key_fle: x}", "unknown key `tls_server_config.key_fle`"),
        ("basic_auth_users: {alice: secret}", "expected a bcrypt hash, as `htpasswd -nBC 10 alice` gives"),
        (TLS.replace("server.crt", "nowhere.crt"), "nowhere.crt"),
        (TLS.replace("}", ", client_auth_type: Sometimes}"), "client_auth_type 'Sometimes': expected NoClientCert"),
        (TLS.replace("}", ", client_auth_type: RequireAndVerifyClientCert}"), "needs a client_ca_file"),
        (TLS.replace("}", ", min_version: TLS10}"), "min_version 'TLS10': expected TLS12, TLS13"),
        (TLS.replace("server.crt", "5"), "Expected a path, read 5"),
        ("basic_auth_users: {alice: $2b$04$secret, bob: [", "web.yml:1: "),
        ("basic_auth_users: {alice: $2b$10$short}", "expected a bcrypt hash"),
        (f"basic_auth_users: {{alice: '$2b$10${'a' * 52}'}}", "expected a bcrypt hash"),
        ('http_server_config: {headers: {X-A: "a\\r\\nSet-Cookie: b"}}', "is no header"),
        ("http_server_config: {headers: {X-A: \u20ac}}", "is no header"),
        ("http_server_config: {headers: {'X A': b}}", "is no header"),
        (TLS.replace("server.crt", '"a\\0b"'), "embedded null byte"),
        (f"basic_auth_users: {{alice: '$2b$99${'a' * 53}'}}", "expected a bcrypt hash"),
        (f"basic_auth_users: {{alice: '$2b$\u0661\u0661${'a' * 53}'}}", "expected a bcrypt hash"),
        ('http_server_config: {"a\\nb": 1}', "unknown key `http_server_config.a b`"),
        (TLS.replace("server.crt", '"a\\nb"'), "a b"),
        ('basic_auth_users: {"\\uD800": x}', "a text with half of a surrogate pair"),
        ("&a [*a]", "an alias stands in itself"),
        ("- a", "expected keys and values"),
        ("a: [", "web.yml"),
    ],
)
def test_what_is_wrong_is_said(folder: Path, text: str, said: str) -> None:
    path = folder / "web.yml"
    path.write_text(text)
    with pytest.raises(WebConfigError) as caught:
        WebConfig(path)
    assert said in str(caught.value) and "secret" not in str(caught.value) and "\n" not in str(caught.value)
