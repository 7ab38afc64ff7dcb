"""The names that `set_option` knows, and what their values may be (revival §2.8).

Must not know: callbacks and threads.
"""

from ._values import HttpProxyOptions

#: Options whose value is a whole number.
NUMBERS = frozenset(
    """
    messageTimeout timeout MinimumPollingTime Batching logtrace rawlogtrace keepalive connect_timeout
    sas_token_lifetime sas_token_refresh_time cbs_request_timeout event_send_timeout_secs c2d_keep_alive_freq_secs
    svc2cl_keep_alive_timeout_secs cl2svc_keep_alive_send_ratio blob_upload_timeout_secs CURLOPT_VERBOSE
    CURLOPT_LOW_SPEED_LIMIT CURLOPT_LOW_SPEED_TIME CURLOPT_FORBID_REUSE CURLOPT_FRESH_CONNECT
    auto_url_encode_decode diag_sampling_percentage tls_version CipherSuite
    """.split()
)
#: Options whose value is text.
TEXTS = frozenset(
    """
    product_info TrustedCerts x509certificate x509privatekey x509EccCertificate x509EccAliasKey proxy_address
    proxy_username proxy_password CipherSuite
    """.split()
)
#: Those that a connection is made with: when one changes before the first connection, the client begins anew.
CONNECTING = frozenset(
    """
    product_info TrustedCerts x509certificate x509privatekey x509EccCertificate x509EccAliasKey proxy_address
    proxy_username proxy_password proxy_data keepalive connect_timeout timeout sas_token_lifetime
    """.split()
)

# The codes of IOTHUB_CLIENT_RESULT, as the one line on stdout prints them.
_INVALID_ARG = 1
_ERROR = 2


_CERTIFICATE = "-----BEGIN CERTIFICATE-----"


def refusal(name, value, certificate):
    """The number of the result if this option is refused, or None. `certificate`: whether one signs the client in."""
    if name.startswith("x509") and not certificate:
        return _INVALID_ARG
    if name == "TrustedCerts" and isinstance(value, str) and _CERTIFICATE not in value:
        return _ERROR
    if isinstance(value, HttpProxyOptions):
        return None if name == "proxy_data" else _INVALID_ARG
    if isinstance(value, int):
        if name not in NUMBERS:
            return _INVALID_ARG if name in TEXTS else _ERROR
        return None if -(2**63) <= value < 2**63 else _INVALID_ARG
    if name in TEXTS:
        return None
    return _INVALID_ARG if name in NUMBERS or name == "proxy_data" else _ERROR
