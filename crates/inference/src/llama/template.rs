//! The chat template that a model file carries.
//!
//! Templates are Jinja as Hugging Face runs it: blocks trimmed, Python's methods on values, `raise_exception`.

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use minijinja::{Environment, ErrorKind, Value, context};

use crate::{ChatMessage, Error};

const NAME: &str = "chat";

#[derive(Debug)]
pub(super) struct ChatTemplate {
    jinja: Environment<'static>,
    bos: Special,
    eos: Special,
}

/// A special token's text.
#[derive(Debug)]
struct Special {
    text: String,
    /// The tokenizer will put it there itself, so the rendered one must go.
    added_by_tokenizer: bool,
}

impl ChatTemplate {
    /// The model's template, or why there is none that can be used.
    pub(super) fn of(model: &LlamaModel) -> Result<Self, String> {
        let source = model
            .meta_val_str("tokenizer.chat_template")
            .map_err(|_| "the model file carries no chat template; send a plain prompt instead".to_owned())?;
        let vocab = model.vocab();
        let text = |token: LlamaToken| match token.0 {
            0.. => vocab.text(token).map(|text| text.to_string_lossy().into_owned()).unwrap_or_default(),
            _ => String::new(),
        };
        Self::new(
            source,
            Special { text: text(vocab.bos()), added_by_tokenizer: vocab.should_add_bos() },
            Special { text: text(vocab.eos()), added_by_tokenizer: vocab.should_add_eos() },
        )
    }

    fn new(source: String, bos: Special, eos: Special) -> Result<Self, String> {
        let mut jinja = Environment::new();
        jinja.set_trim_blocks(true);
        jinja.set_lstrip_blocks(true);
        jinja.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        jinja.add_function("raise_exception", |message: String| -> Result<Value, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        jinja.add_template_owned(NAME, source).map_err(|error| format!("the model's chat template cannot be used: {error}"))?;
        Ok(Self { jinja, bos, eos })
    }

    /// The conversation as the model was taught to read it, up to where the assistant's answer begins.
    pub(super) fn render(&self, messages: &[ChatMessage]) -> Result<String, Error> {
        if messages.is_empty() {
            return Err(Error::BadMessages { reason: "there are no messages; send at least one".into() });
        }
        let rendered = self
            .jinja
            .get_template(NAME)
            .and_then(|template| {
                template.render(context! {
                    messages => messages,
                    add_generation_prompt => true,
                    bos_token => self.bos.text,
                    eos_token => self.eos.text,
                })
            })
            .map_err(|error| Error::BadMessages { reason: format!("the model's chat template says: {error}") })?;
        let mut text = rendered.as_str();
        if self.bos.added_by_tokenizer {
            text = text.strip_prefix(self.bos.text.as_str()).unwrap_or(text);
        }
        if self.eos.added_by_tokenizer {
            text = text.strip_suffix(self.eos.text.as_str()).unwrap_or(text);
        }
        Ok(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Role;

    fn special(text: &str, added_by_tokenizer: bool) -> Special {
        Special { text: text.to_owned(), added_by_tokenizer }
    }

    fn template(source: &str, added_by_tokenizer: bool) -> ChatTemplate {
        ChatTemplate::new(source.to_owned(), special("<s>", added_by_tokenizer), special("</s>", added_by_tokenizer)).unwrap()
    }

    fn say(role: Role, content: &str) -> ChatMessage {
        ChatMessage { role, content: content.to_owned() }
    }

    #[test]
    fn blocks_are_trimmed_and_python_methods_work() {
        let source = "{{ bos_token }}\n{% for message in messages %}\n    {% if message['role'] == 'user' %}\n\
                      [{{ message.content.strip().upper() }}]\n    {% endif %}\n{% endfor %}\n\
                      {% if add_generation_prompt %}>{% endif %}";
        let text = template(source, false).render(&[say(Role::System, "x"), say(Role::User, " hi ")]).unwrap();
        assert_eq!(text, "<s>\n[HI]\n>");
    }

    #[test]
    fn what_the_tokenizer_adds_is_not_there_twice() {
        let source = "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}";
        let hello = [say(Role::User, "hello")];
        assert_eq!(template(source, true).render(&hello).unwrap(), "hello");
        assert_eq!(template(source, false).render(&hello).unwrap(), "<s>hello</s>");
    }

    #[test]
    fn a_template_can_refuse_a_conversation() {
        let source = "{% if messages[0].role != 'user' %}{{ raise_exception('begin with the user') }}{% endif %}";
        let error = template(source, false).render(&[say(Role::Assistant, "hello")]).unwrap_err();
        assert!(error.to_string().contains("begin with the user"), "{error}");
        assert!(matches!(template(source, false).render(&[]), Err(Error::BadMessages { .. })));
    }

    #[test]
    fn a_broken_template_is_named() {
        let reason = ChatTemplate::new("{% if %}".into(), special("", false), special("", false)).unwrap_err();
        assert!(reason.contains("cannot be used"), "{reason}");
    }
}
