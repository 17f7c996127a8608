"""The web console's listener: HTTPS, static files, and the Connect protocol in front of the Master's own services.

A client of the contract and nothing more: each call goes on to the services with the token of the browser's session, and passes the
same gate as any other.
"""
