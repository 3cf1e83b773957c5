//! What `milepost doctor` asks of a validator.
