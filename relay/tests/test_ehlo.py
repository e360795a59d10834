"""What EHLO announces, and when (SMTP-2)."""

ALWAYS = ["8BITMIME", "SMTPUTF8", "PIPELINING", "ENHANCEDSTATUSCODES"]


def announced(reply):
    assert all(line.startswith("250") for line in reply.split("\n"))
    return sorted(line[4:] for line in reply.split("\n")[1:])


def test_before_tls_starttls_is_offered_and_auth_is_not(listen):
    with listen(max_message_size=123_456).client() as client:
        assert announced(client.command("EHLO x")) == sorted([*ALWAYS, "SIZE 123456", "STARTTLS"])


def test_after_starttls_auth_is_offered_and_starttls_is_not(listen):
    with listen(max_message_size=123_456).client() as client:
        assert announced(client.hello()) == sorted([*ALWAYS, "SIZE 123456", "AUTH PLAIN LOGIN"])


def test_with_implicit_tls_auth_is_offered_at_once(listener):
    from relay.tests.listening import Client

    with Client(listener.tls_port, tls=True) as client:
        assert "AUTH PLAIN LOGIN" in announced(client.command("EHLO x"))


def test_without_tls_by_configuration_auth_is_offered_in_clear(listen):
    with listen(tls_mode="none").client() as client:
        offered = announced(client.command("EHLO x"))
        assert "AUTH PLAIN LOGIN" in offered
        assert "STARTTLS" not in offered
        assert client.command("STARTTLS").startswith("502 5.5.1")


def test_ehlo_again_abandons_the_transaction(printer):
    printer.command("MAIL FROM:<app@acme.example>")
    printer.command("EHLO again.example")
    assert printer.command("RCPT TO:<bob@example.org>").startswith("503")


def test_the_first_line_names_us(client):
    assert client.command("EHLO x").split("\n")[0] == "250-localhost"
