//! Parquet: rows are gathered into row groups of bounded size, compressed by zstd. Every column may
//! be null, and says what it holds by its logical type.

use std::io::{self, Write};
use std::sync::Arc;

use parquet::basic::{
    Compression, ConvertedType, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel,
};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::Type;

use super::table::{Column, Kind, Table};
use super::value::Value;
use crate::core::build::DESCRIPTION;

const MAX_ROWS: usize = 100_000;
const MAX_BYTES: usize = 64 << 20;
/// Sums of USD that a decimal of 18 digits can say.
const MAX_USD: u64 = 999_999_999_999_999_999;

pub(super) struct Columnar<W: Write + Send> {
    file: SerializedFileWriter<W>,
    columns: Vec<Gathered>,
    rows: usize,
    bytes: usize,
}

/// The values of one column that wait for their row group: which are there, and those.
struct Gathered {
    kind: Kind,
    is_there: Vec<i16>,
    values: Values,
}

enum Values {
    Texts(Vec<ByteArray>),
    Integers(Vec<i64>),
    Numbers(Vec<f64>),
    Flags(Vec<bool>),
}

impl<W: Write + Send> Columnar<W> {
    pub(super) fn new(table: Table, columns: &[Column], out: W) -> io::Result<Self> {
        let fields: Result<Vec<_>, _> = columns.iter().map(described).collect();
        let schema = Type::group_type_builder(table.name())
            .with_fields(fields.map_err(failed)?.into_iter().map(Arc::new).collect())
            .build()
            .map_err(failed)?;
        let docs = columns.iter().map(|column| {
            let key = format!("open_aiops.column.{}", column.name);
            KeyValue::new(key, column.doc.to_owned())
        });
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_created_by(format!("open-aiops {DESCRIPTION}"))
            .set_key_value_metadata(Some(docs.collect()))
            .build();
        let file = SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties));
        Ok(Self {
            file: file.map_err(failed)?,
            columns: columns.iter().map(|it| Gathered::new(it.kind)).collect(),
            rows: 0,
            bytes: 0,
        })
    }

    pub(super) fn push(&mut self, row: &[Value]) -> io::Result<()> {
        for (column, value) in self.columns.iter_mut().zip(row) {
            column.push(value);
        }
        self.rows += 1;
        self.bytes += row.iter().map(Value::size).sum::<usize>();
        if self.rows >= MAX_ROWS || self.bytes >= MAX_BYTES {
            self.write_group()?;
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        if self.rows > 0 {
            self.write_group()?;
        }
        self.file.close().map(drop).map_err(failed)
    }

    fn write_group(&mut self) -> io::Result<()> {
        let mut group = self.file.next_row_group().map_err(failed)?;
        for column in &mut self.columns {
            let writer = group.next_column().map_err(failed)?;
            let writer = writer.ok_or_else(|| io::Error::other("fewer columns than declared"))?;
            column.write(writer).map_err(failed)?;
        }
        group.close().map_err(failed)?;
        (self.rows, self.bytes) = (0, 0);
        Ok(())
    }
}

impl Gathered {
    fn new(kind: Kind) -> Self {
        let values = match kind {
            Kind::Text | Kind::Json => Values::Texts(Vec::new()),
            Kind::Integer | Kind::Time | Kind::Usd => Values::Integers(Vec::new()),
            Kind::Number => Values::Numbers(Vec::new()),
            Kind::Flag => Values::Flags(Vec::new()),
        };
        Self {
            kind,
            is_there: Vec::new(),
            values,
        }
    }

    /// What the column cannot hold is null.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a whole number that came without its fraction"
    )]
    fn push(&mut self, value: &Value) {
        let is_there = match (&mut self.values, value) {
            (Values::Texts(texts), Value::Text(text)) => {
                texts.push(text.as_bytes().to_vec().into());
                true
            }
            (Values::Integers(integers), Value::Integer(integer))
                if self.kind != Kind::Usd || integer.unsigned_abs() <= MAX_USD =>
            {
                integers.push(*integer);
                true
            }
            (Values::Numbers(numbers), Value::Number(number)) => {
                numbers.push(*number);
                true
            }
            (Values::Numbers(numbers), Value::Integer(number)) => {
                numbers.push(*number as f64);
                true
            }
            (Values::Flags(flags), Value::Flag(flag)) => {
                flags.push(*flag);
                true
            }
            _ => false,
        };
        self.is_there.push(is_there.into());
    }

    fn write(&mut self, mut writer: SerializedColumnWriter<'_>) -> Result<(), ParquetError> {
        let there = Some(self.is_there.as_slice());
        match &mut self.values {
            Values::Texts(texts) => {
                let column = writer.typed::<ByteArrayType>();
                column.write_batch(texts, there, None)?;
                texts.clear();
            }
            Values::Integers(integers) => {
                let column = writer.typed::<Int64Type>();
                column.write_batch(integers, there, None)?;
                integers.clear();
            }
            Values::Numbers(numbers) => {
                let column = writer.typed::<DoubleType>();
                column.write_batch(numbers, there, None)?;
                numbers.clear();
            }
            Values::Flags(flags) => {
                let column = writer.typed::<BoolType>();
                column.write_batch(flags, there, None)?;
                flags.clear();
            }
        }
        self.is_there.clear();
        writer.close()
    }
}

fn described(column: &Column) -> Result<Type, ParquetError> {
    let (physical, logical) = match column.kind {
        Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        Kind::Json => (Physical::BYTE_ARRAY, Some(LogicalType::Json)),
        Kind::Integer => (Physical::INT64, None),
        Kind::Number => (Physical::DOUBLE, None),
        Kind::Flag => (Physical::BOOLEAN, None),
        Kind::Time => (
            Physical::INT64,
            Some(LogicalType::timestamp(true, TimeUnit::MICROS)),
        ),
        Kind::Usd => (Physical::INT64, Some(LogicalType::decimal(9, 18))),
    };
    let builder = Type::primitive_type_builder(column.name, physical)
        .with_repetition(Repetition::OPTIONAL)
        .with_converted_type(ConvertedType::NONE)
        .with_logical_type(logical);
    match column.kind {
        Kind::Usd => builder.with_precision(18).with_scale(9).build(),
        _ => builder.build(),
    }
}

fn failed(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(cause) => match cause.downcast::<io::Error>() {
            Ok(cause) => *cause,
            Err(cause) => io::Error::other(cause),
        },
        other => io::Error::other(other),
    }
}
