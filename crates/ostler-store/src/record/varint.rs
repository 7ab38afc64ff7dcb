//! Little-endian base-128 numbers and a reader that never runs past its bytes.
//!
//! Must not know: what the numbers mean.
//!
//! Invariant: whatever the bytes, reading ends in a value or a [`Damage`], never in a panic.

use super::header::Damage;

/// Most bytes of a 64-bit number.
const MOST_BYTES: u32 = 10;

/// Appends a number: seven bits a byte, lowest first, the high bit says that more follow.
pub(crate) fn write(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a signed number; small magnitudes take few bytes.
pub(crate) fn write_signed(number: i64, out: &mut Vec<u8>) {
    write(((number << 1) ^ (number >> 63)) as u64, out);
}

/// Appends a text behind its length.
pub(crate) fn write_text(text: &str, out: &mut Vec<u8>) {
    write(text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

/// Reads from the front of bytes.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    #[inline]
    pub(crate) fn byte(&mut self) -> Result<u8, Damage> {
        let (first, rest) = self.0.split_first().ok_or(Damage::Short)?;
        self.0 = rest;
        Ok(*first)
    }

    #[inline]
    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Damage> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Damage::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    #[inline]
    pub(crate) fn number(&mut self) -> Result<u64, Damage> {
        match self.0.split_first() {
            // Nearly all of them.
            Some((first, rest)) if *first < 0x80 => {
                self.0 = rest;
                Ok(u64::from(*first))
            }
            _ => self.long_number(),
        }
    }

    fn long_number(&mut self) -> Result<u64, Damage> {
        let mut number = 0;
        for place in 0..MOST_BYTES {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Damage::Malformed("a number of more than ten bytes"))
    }

    pub(crate) fn signed(&mut self) -> Result<i64, Damage> {
        let number = self.number()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    /// A number that counts or measures something in these bytes, and so cannot exceed what is left.
    #[inline]
    pub(crate) fn length(&mut self) -> Result<usize, Damage> {
        let length = self.number()?;
        usize::try_from(length).ok().filter(|length| *length <= self.0.len()).ok_or(Damage::Short)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, Damage> {
        let length = self.length()?;
        self.text_of(length)
    }

    pub(crate) fn text_of(&mut self, length: usize) -> Result<&'a str, Damage> {
        std::str::from_utf8(self.bytes(length)?).map_err(|_| Damage::Malformed("a text is not UTF-8"))
    }

    pub(crate) fn finish(self) -> Result<(), Damage> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Damage::Malformed("bytes are left over"))
        }
    }
}

/// Reads from the front of bytes, and says only whether there was something to read: for what is done
/// for every record of a scan, where carrying a [`Damage`] around would cost more than the reading.
#[derive(Clone, Copy)]
pub(crate) struct Quick<'a>(pub(crate) &'a [u8]);

impl<'a> Quick<'a> {
    #[inline]
    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    #[inline]
    pub(crate) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    #[inline]
    pub(crate) fn number(&mut self) -> Option<u64> {
        let (first, rest) = self.0.split_first()?;
        if *first < 0x80 {
            self.0 = rest;
            return Some(u64::from(*first));
        }
        let mut reader = Reader(self.0);
        let number = reader.number().ok()?;
        self.0 = reader.0;
        Some(number)
    }

    #[inline]
    pub(crate) fn length(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok()
    }

    #[inline]
    pub(crate) fn skip_number(&mut self) -> Option<()> {
        let (first, rest) = self.0.split_first()?;
        if *first < 0x80 {
            self.0 = rest;
            return Some(());
        }
        let last = self.0.iter().take(MOST_BYTES as usize).position(|byte| *byte < 0x80)?;
        self.0 = &self.0[last + 1..];
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_read_as_written(number: u64, signed: i64, text in ".{0,40}") {
            let mut bytes = Vec::new();
            write(number, &mut bytes);
            write_signed(signed, &mut bytes);
            write_text(&text, &mut bytes);
            let mut reader = Reader(&bytes);
            prop_assert_eq!(reader.number().unwrap(), number);
            prop_assert_eq!(reader.signed().unwrap(), signed);
            prop_assert_eq!(reader.text().unwrap(), text);
            reader.finish().unwrap();
        }

        #[test]
        fn any_bytes_end_in_a_value_or_damage(bytes: Vec<u8>) {
            let _ = Reader(&bytes).number();
            let _ = Reader(&bytes).text();
        }
    }
}
