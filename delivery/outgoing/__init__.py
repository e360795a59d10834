"""What goes out to subscribers: events to the exchange of EVENTS_URL and to tenants' webhooks (EVT-3, EVT-4, AMQP-2).

The webhooks here are the tenants' own, which we call. Those that providers call are in `delivery.webhook_views`.
"""
