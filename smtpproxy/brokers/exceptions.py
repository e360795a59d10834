class BrokerUnusable(Exception):
    """The broker answers, but not as it must; the text says what to change and may be shown to operators."""
