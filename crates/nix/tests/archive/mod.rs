//! Reads the archives of the golden data.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a failed test is the point"
)]

use std::path::Path;

/// Every file of a tar archive compressed with zstd: name and bytes, in order. Plain `ustar` and GNU long names.
pub fn tar_zst(path: &Path, mut each: impl FnMut(&str, Vec<u8>)) {
    use std::io::Read;
    let mut decoder = zstd::Decoder::new(std::fs::File::open(path).unwrap()).unwrap();
    decoder.window_log_max(28).unwrap();
    let mut input = std::io::BufReader::with_capacity(1 << 20, decoder);
    let mut long_name = None;
    loop {
        let mut header = [0u8; 512];
        if input.read_exact(&mut header).is_err() || header[0] == 0 {
            return;
        }
        let text = |range: std::ops::Range<usize>| {
            let field = &header[range];
            let end = field.iter().position(|&b| b == 0).unwrap_or(field.len());
            std::str::from_utf8(&field[..end]).unwrap().trim().to_owned()
        };
        let size = usize::from_str_radix(&text(124..136), 8).unwrap();
        let mut data = vec![0; size.next_multiple_of(512)];
        input.read_exact(&mut data).unwrap();
        data.truncate(size);
        match header[156] {
            b'L' => {
                data.pop();
                long_name = Some(String::from_utf8(data).unwrap());
            }
            b'0' | 0 => {
                let name = long_name.take().unwrap_or_else(|| text(0..100));
                each(&name, data);
            }
            _ => long_name = None,
        }
    }
}
