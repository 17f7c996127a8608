"""Signing in, in tests: users with passwords, sessions, second factors, keys of machines, and calls on their behalf."""

import secrets
import time
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
import pyotp
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tenantry.v1 import (
    role_service_pb2_grpc,
    session_service_pb2,
    session_service_pb2_grpc,
    token_service_pb2_grpc,
    user_service_pb2,
    user_service_pb2_grpc,
)
from tests.servers.master import MasterProcess

PASSWORD = "a phrase that nobody guesses"
CALL_S = 20.0
SERVICES: dict[str, Any] = {
    "RoleService": role_service_pb2_grpc.RoleServiceStub,
    "SessionService": session_service_pb2_grpc.SessionServiceStub,
    "TokenService": token_service_pb2_grpc.TokenServiceStub,
    "UserService": user_service_pb2_grpc.UserServiceStub,
}


@dataclass
class Person:
    """A caller with a bearer token; the empty token is a stranger's."""

    master: MasterProcess
    token: str = field(default="", repr=False)

    async def call(self, method: str, request: Any, *, on: grpc.aio.Channel | None = None) -> Any:
        """One call, named as `Service.Method`."""
        service, _, name = method.partition(".")
        if on is not None:
            return await getattr(SERVICES[service](on), name)(request, metadata=self.metadata, timeout=CALL_S)
        async with self.master.api_channel() as channel:
            return await getattr(SERVICES[service](channel), name)(request, metadata=self.metadata, timeout=CALL_S)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What the person's calls carry."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()


def administrator(master: MasterProcess) -> Person:
    """Who may do everything."""
    return Person(master, master.token)


async def new_user(master: MasterProcess, *, password: str = PASSWORD, machine: bool = False, prefix: str = "u") -> str:
    """A user without roles; the name, which no other test has."""
    name = f"{prefix}-{secrets.token_hex(4)}"
    request = user_service_pb2.CreateUserRequest(
        user=user_service_pb2.User(name=name, machine=machine), password="" if machine else password
    )
    await administrator(master).call("UserService.CreateUser", request)
    return name


async def sign_in(
    master: MasterProcess, name: str, password: str = PASSWORD, code: str = "", on: grpc.aio.Channel | None = None
) -> Person:
    """A person with a session."""
    request = session_service_pb2.SignInRequest(name=name, password=password, code=code)
    answer = await Person(master).call("SessionService.SignIn", request, on=on)
    return Person(master, answer.token)


async def with_second_factor(person: Person, password: str = PASSWORD) -> tuple[pyotp.TOTP, list[str]]:
    """Give a person a second factor: the authenticator, and the recovery codes. The present code is used up by that."""
    request = user_service_pb2.EnrolSecondFactorRequest(password=password)
    secret = (await person.call("UserService.EnrolSecondFactor", request)).secret
    authenticator = pyotp.TOTP(secret)
    confirmation = user_service_pb2.ConfirmSecondFactorRequest(code=authenticator.now())
    answer = await person.call("UserService.ConfirmSecondFactor", confirmation)
    return authenticator, list(answer.recovery_codes)


def code_at(authenticator: pyotp.TOTP, steps: int) -> str:
    """The code so many steps of 30 s from now."""
    return authenticator.generate_otp(int(time.time()) // authenticator.interval + steps)


def key_and_request(common_name: str = "machine") -> tuple[bytes, bytes]:
    """A machine's new key (PEM), and a certificate request (DER) with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return pem, request.public_bytes(serialization.Encoding.DER)
