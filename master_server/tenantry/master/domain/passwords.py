"""What may be a password: length, and that it is not what everybody tries first. No rules of composition."""

from typing import Final

from tenantry.protocol.failures import FieldInvalid

MIN_LENGTH: Final = 12
MAX_LENGTH: Final = 256

# Of the lists that guessing programs begin with, what is long enough to pass the rule of length.
_WORDS: Final = """
    123456789012 1234567890123 12345678901234 123456789012345 1234567890123456 012345678901 0123456789012 098765432109
    0987654321098 987654321098 9876543210987 111111111111 000000000000 1q2w3e4r5t6y 1q2w3e4r5t6y7u 1qaz2wsx3edc 1qaz2wsx3edc4rfv
    q1w2e3r4t5y6 q1w2e3r4t5y6u7 zaq12wsxcde3 qwertyuiop12 qwertyuiop123 qwertyuiop1234 qwertyuiop[] qwertyuiopas
    qwertyuiopasdf qwertyuiopasdfghjkl qwertyqwerty qwerty123456 qwerty1234567 qwerty12345678 qwerty123456789 asdfghjkl123
    asdfghjkl1234 asdfghjklzxcvbnm zxcvbnmasdfghjkl qazwsxedcrfv qazwsxedc123 abcdefghijkl abcdefghijklm abcdefghijklmnopqrstuvwxyz
    abc123abc123 abcd12345678 abcdef123456 a1b2c3d4e5f6 aaaaaaaaaaaa password1234 password12345 password123456 password1234567
    password123456789 password1234567890 passwordpassword password123password password2020 password2021 password2022 password2023
    password2024 password2025 password2026 password!234 password1!23 passw0rd1234 passw0rd12345 p@ssw0rd1234 p@ssword1234
    p@ssw0rd12345 p@ssword12345 p@$$w0rd1234 mypassword12 mypassword123 mypassword1234 newpassword1 newpassword123 changeme1234
    changeme12345 changemenow1 changemeplease changeit1234 letmein12345 letmein123456 letmeinletmein letmeinplease welcome12345
    welcome123456 welcome12345678 welcome2tenantry administrator administrator1 administrator123 adminadmin12 adminadmin123
    adminadminadmin admin1234567 admin12345678 admin123456789 admin123admin rootrootroot rootroot1234 superuser123 supersecret1
    supersecret123 secretsecret secret123456 iloveyou1234 iloveyou12345 iloveyouforever ilovemyfamily trustno1trustno1 monkey123456
    dragon123456 football1234 baseball1234 liverpool123 manchester123 chelseachelsea superman1234 batman123456 princess1234
    sunshine1234 michael12345 computer1234 internet1234 whatever1234 starwars1234 pokemon12345 blink182blink summer202412
    correcthorsebatterystaple tenantrytenantry tenantry1234 tenantry12345 tenantry123456 defaultpassword temporary123 temppassword
    testtesttest test12345678 test123456789 testpassword testing12345 demo12345678 demodemodemo guestguest12 guest1234567
"""
_COMMON: Final = frozenset(_WORDS.split())


def check_password(password: str, name: str) -> str:
    """The password itself, exactly as it is. ``name`` is the user's. Raises FieldInvalid, which never repeats the password."""
    expected = f"{MIN_LENGTH} to {MAX_LENGTH} characters, not the user's name, not one of the commonest"
    folded = password.casefold()
    problem = ""
    if len(password) < MIN_LENGTH:
        problem = "is too short"
    elif len(password) > MAX_LENGTH:
        problem = "is too long"
    elif folded.strip() == name.casefold() or folded == name.casefold() * 2:
        problem = "is the user's name"
    elif folded in _COMMON or len(set(folded)) < 4:
        problem = "is among those that are tried first"
    if problem:
        raise FieldInvalid(field="password", problem=problem, expected=expected)
    return password
