"""Credentials that no issuer ever gave out, for tests to plant.

In two halves each, so that no scanner takes this file for a leak.
"""

LETTERS = "q7Rk2Zb9XvT4mLw8Np3Yc6Hd1Sf5Jg0KaUeQzBtMs"

TOKENS = {
    "a private key": "-----BEGIN RSA " + "PRIVATE KEY-----",
    "an AWS access key": "AKIA" + "Q3EGRTZ7XKLM2WPN",
    "a GitHub token": "ghp_" + LETTERS[:36],
    "a GitLab token": "glpat-" + LETTERS[:20],
    "a Hugging Face token": "hf_" + LETTERS[:34],
    "a Slack token": "xoxb-" + "1234567890-" + LETTERS[:24],
    "a Google key": "AIza" + LETTERS[:35],
    "an API key": "sk-" + "ant-api03-" + LETTERS,
    "an Azure key": "AccountKey=" + (LETTERS * 3)[:86] + "==",
    "a JSON web token": "eyJ" + "hbGciOiJIUzI1NiJ9.eyJ" + "zdWIiOiIxMjM0In0." + LETTERS,
    "an authorization header": "Authorization: " + f"Bearer {LETTERS}",
    "a login for a registry": '"auth"' + f': "{LETTERS}"',
    "a password in a URI": "postgresql://admin:" + "Tr0ub4dor@db.internal/mlflow",
    "a literal password, token or key": "db_password" + ' = "s3cr3t-Wint3r!"',
}
"""By the kind that names them."""
