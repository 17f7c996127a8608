"""The Master: registers Tenants, hears them, keeps what they send and answers the operators."""
