"""Forms of the admin for tenants, people and accounts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from django import forms
from django.contrib.auth.forms import BaseUserCreationForm
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.utils import timezone
from unfold import widgets  # type: ignore[import-untyped]

from accounts import networks
from accounts.models import Account, ApiKey, Tenant, User


class LinesField(forms.CharField):
    """A list of texts, one a line; blank lines and space around are dropped."""

    widget = forms.Textarea

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        for json_only in ("encoder", "decoder"):  # what a JSONField of a model passes to its form field
            kwargs.pop(json_only, None)
        kwargs.setdefault("widget", forms.Textarea(attrs={"rows": 3, "cols": 60}))
        super().__init__(*args, **kwargs)

    def to_python(self, value: Any) -> Any:
        lines = value if isinstance(value, list) else str(value or "").splitlines()
        return [line.strip() for line in lines if line.strip()]

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(map(str, value)) if isinstance(value, Iterable) and not isinstance(value, str) else value

    def validate(self, value: Any) -> None:
        if self.required and not value:
            raise forms.ValidationError(self.error_messages["required"], code="required")

    def run_validators(self, value: Any) -> None:
        """The model's own validators look at the list."""


class NumbersField(LinesField):
    """A list of whole numbers, one a line; None when there is none."""

    def to_python(self, value: Any) -> Any:
        try:
            return [int(line) for line in super().to_python(value)] or None
        except ValueError:
            raise forms.ValidationError("Give whole numbers, one a line.", code="not_a_number") from None


class LongTextField(forms.CharField):
    """A text of several lines, with line feeds between, as it was before a browser sent it."""

    widget = forms.Textarea

    def to_python(self, value: Any) -> Any:
        return (super().to_python(value) or "").replace("\r\n", "\n")


class ErrorsAnywhere:
    """For forms whose models find faults in fields that are not in the form: those belong to the form as a whole.

    An error with the code `field:<name>` is shown at that field, unless the field has an error of its own.
    """

    def add_error(self, field: str | None, error: Any) -> None:
        form: Any = self
        if field is None and isinstance(error, ValidationError) and hasattr(error, "error_dict"):
            known: dict[str, list[ValidationError]] = {}
            for name, errors in error.error_dict.items():
                for each in errors:
                    place = str(each.code or "").partition("field:")[2] or name
                    if place != name and place in form._errors:
                        continue  # the field itself has refused the value
                    known.setdefault(place if place in form.fields else NON_FIELD_ERRORS, []).append(each)
            if not known:
                return
            error = ValidationError(known)
        super().add_error(field, error)  # type: ignore[misc]


class TenantForm(ErrorsAnywhere, forms.ModelForm):
    """`person` and `client_ip` are who fills it in, and from where: nobody of the tenant locks themselves out."""

    person: ClassVar[User | None] = None
    client_ip: ClassVar[str | None] = None

    owner_email = forms.EmailField(
        required=False,
        label="First owner's e-mail",
        widget=widgets.UnfoldAdminEmailInputWidget,
        help_text="The person who sets the tenant up, invited by mail; where none can be sent, their "
        "password is shown once, on the next page. Empty: add people later, under Users.",
    )

    def clean_owner_email(self) -> str:
        email: str = self.cleaned_data["owner_email"].strip().lower()
        if email and User.objects.filter(email__iexact=email).exists():
            raise ValidationError("There is a person with this e-mail address.", code="taken")
        return email

    def clean_client_networks(self) -> Any:
        listed = self.cleaned_data["client_networks"]
        theirs = self.person is not None and self.person.tenant_id == self.instance.pk
        readable = isinstance(listed, list) and all(networks.network(str(one)) for one in listed)
        if theirs and readable and not networks.allowed(networks.address(self.client_ip), listed):
            raise ValidationError(networks.OUTSIDE.format(self.client_ip or "unknown"), code="locked_out")
        return listed

    class Meta:
        model = Tenant
        fields = "__all__"  # noqa: DJ007  the admin names them
        field_classes = {"client_networks": LinesField}
        help_texts = {
            "client_networks": "Networks clients may connect from, one a line (192.0.2.0/24); empty: any.",
            "lossless": "Some providers send the very bytes they are given; others take a message apart and write it "
            "anew, so that signatures break and headers are lost. Preferred: of the providers of a route those that "
            "lose least go first, and the others stay as fallbacks. Required: a message for which the route has no "
            "provider that leaves it as it is waits on hold.",
        }


class AccountForm(ErrorsAnywhere, forms.ModelForm):
    class Meta:
        model = Account
        fields = "__all__"  # noqa: DJ007  the admin names them
        field_classes = {"allowed_senders": LinesField, "client_networks": LinesField}
        help_texts = {
            "allowed_senders": "One a line: example.com, or *.example.com for every domain below it. "
            "Empty: this account may send nothing.",
            "client_networks": "Networks clients may connect from, one a line (192.0.2.0/24); empty: any.",
        }


SCOPES = {
    ApiKey.Scope.SEND: "send messages",
    ApiKey.Scope.MESSAGES_READ: "read its messages",
    ApiKey.Scope.LOGS_READ: "read delivery logs and statistics",
    ApiKey.Scope.SUPPRESSIONS: "read and change suppressions",
    ApiKey.Scope.WEBHOOKS: "read and change its webhooks",
}
"""What a key with this scope may do."""


class ApiKeyForm(forms.ModelForm):
    scopes = forms.MultipleChoiceField(
        choices=[(scope.value, f"{scope.value}: {told}") for scope, told in SCOPES.items()],
        widget=widgets.UnfoldAdminCheckboxSelectMultipleWidget,
        initial=[ApiKey.Scope.SEND],
        help_text="What its holder may do by the HTTP API, for this account only.",
    )

    class Meta:
        model = ApiKey
        fields = ("account", "name", "scopes", "expires_at")

    def clean_expires_at(self) -> Any:
        moment = self.cleaned_data["expires_at"]
        if moment is not None and moment <= timezone.now():
            raise ValidationError("Choose a time in the future.", code="past")
        return moment


class UserForm(ErrorsAnywhere, forms.ModelForm):
    class Meta:
        model = User
        fields = ("email", "name", "tenant", "role")


INVITED = "<p>Empty: they get a link by mail with which they choose one.</p>"


class UserCreationForm(ErrorsAnywhere, BaseUserCreationForm):
    """Without a password the person is invited to choose one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in {"password1", "password2"} & set(self.fields):
            self.fields[name].required = False
        if "password1" in self.fields:
            self.fields["password1"].help_text = INVITED + str(self.fields["password1"].help_text)

    def clean(self) -> Any:
        given = [bool(self.cleaned_data.get(name)) for name in ("password1", "password2")]
        if any(given) and not all(given) and not self.errors:
            self.add_error("password2", ValidationError(self.error_messages["password_mismatch"], "password_mismatch"))
        return super().clean()

    def set_password_and_save(self, user: Any, password_field_name: str = "password1", commit: bool = True) -> Any:  # noqa: S107
        if self.cleaned_data[password_field_name]:
            user.set_password(self.cleaned_data[password_field_name])
        else:
            user.set_unusable_password()
        if commit:
            user.save()
        return user

    class Meta:
        model = User
        fields = ("email", "name", "tenant", "role")
        field_classes: dict[str, Any] = {}
