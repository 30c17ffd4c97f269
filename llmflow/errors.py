"""Everything llmflow raises on purpose.

::

    LlmflowError            exit code 1
    ├── CaptureError        a capture that cannot be read at all
    ├── FlowError           a flow that was asked for and is not there, or not the only one
    ├── LabelError          labels or manifests that cannot be used
    ├── ModelError          a model that is damaged, untrusted or of another feature schema
    ├── ProviderError       a list of providers that cannot be used
    ├── LabError            a traffic lab that cannot be built or run as asked
    └── OutputError         a result that cannot be written
        └── EndingError     exit code 2: the name of an output asks for what is not there

Damage *inside* a capture is no exception: it is counted in the
:class:`~llmflow.capture.account.PacketAccount` and ends in exit code 3.
"""


class LlmflowError(Exception):
    """One sentence: what is wrong, where, and what to do about it.

    Parameters
    ----------
    message : str
        What is wrong.
    where : str, optional
        File, packet or column it is about; put in front of the message.
    hint : str, optional
        What the user can do; put behind the message.
    """

    exit_code = 1

    def __init__(self, message: str, *, where: str = "", hint: str = "") -> None:
        self.message, self.where, self.hint = message, where, hint
        text = f"{where}: {message}" if where else message
        super().__init__(f"{text}; {hint}" if hint else text)


class CaptureError(LlmflowError):
    """A capture that cannot be opened or holds nothing that can be read."""


class FlowError(LlmflowError):
    """A flow that was asked for and is not in the captures, or not the only one of that name."""


class LabelError(LlmflowError):
    """Labels or manifests that cannot be used."""


class ModelError(LlmflowError):
    """A model that is damaged, not trusted, or made for another feature schema."""


class ProviderError(LlmflowError):
    """A list of providers that cannot be read or is not of the format."""


class LabError(LlmflowError):
    """A traffic lab that cannot be built, or did not run as it was asked to."""


class OutputError(LlmflowError):
    """A result that cannot be written where it was asked for."""


class EndingError(OutputError):
    """The name of an output does not say a format that is known: wrong usage."""

    exit_code = 2
