//! Where RocksDB's own messages go.

use rocksdb::{LogLevel, Options};

/// Warnings and errors become log events; RocksDB writes no text log of its own. Such a log begins with every option of every table, which
/// is some hundredths of a start, and stays behind in the database's directory.
///
/// A subscriber that panics ends the process: the call comes from C++.
#[cfg(feature = "rocksdb")]
pub(crate) fn set(options: &mut Options) {
    options.set_info_logger(rocksdb::InfoLogger::new_callback_logger(LogLevel::Warn, |level, message| {
        let message = message.trim_end();
        match level {
            LogLevel::Error | LogLevel::Fatal => tracing::error!(event = "rocksdb", "{message}"),
            LogLevel::Warn => tracing::warn!(event = "rocksdb", "{message}"),
            // Every option of every table comes as a headline, whatever level was asked for.
            LogLevel::Debug | LogLevel::Info | LogLevel::Header => {}
        }
    }));
}

/// Warnings and errors go to RocksDB's text log, in the database's directory: older versions offer nothing else.
#[cfg(not(feature = "rocksdb"))]
pub(crate) fn set(options: &mut Options) {
    /// Files kept, and bytes of each.
    const TEXT_LOGS: (usize, usize) = (2, 1 << 20);
    options.set_keep_log_file_num(TEXT_LOGS.0);
    options.set_max_log_file_size(TEXT_LOGS.1);
    options.set_log_level(LogLevel::Warn);
}
