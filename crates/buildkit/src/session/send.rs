//! Gives results to a client: a file, or a directory in fsutil's protocol with this program as its sender
//! (BuildKit, session/filesync, `FileSend`).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use bollard_buildkit_proto::fsutil::types::packet::PacketType;
use bollard_buildkit_proto::fsutil::types::{Packet, Stat};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{MetadataKey, MetadataMap};
use tonic::{Request, Status};

use super::filesync::BytesMessage;
use super::filesync::file_send_client::FileSendClient;
use super::packet::file_send_client::FileSendClient as DirectorySendClient;
use super::receive::mode_for_go;
use super::{MESSAGE_SIZE_MAX, Session, said};

/// Bytes of a file that go into one message.
const PIECE: usize = 256 * 1024;

/// Says which exporter of the request a result is of.
fn add_exporter(metadata: &mut MetadataMap, exporter: usize) -> Result<()> {
    metadata.insert("buildkit-attachable-exporter-id", exporter.to_string().parse()?);
    Ok(())
}

impl Session {
    /// Sends the client the file that `write` writes, as the result of the exporter of that number. `about`
    /// are the metadata of the exporter's answer, which the client may use for the file's name.
    ///
    /// # Errors
    ///
    /// The client's words, or the error of `write`.
    pub fn send_file(
        &self,
        exporter: usize,
        about: &BTreeMap<String, String>,
        write: impl FnOnce(&mut dyn Write) -> Result<()>,
    ) -> Result<()> {
        let (send, receive) = mpsc::channel::<BytesMessage>(8);
        let mut request = Request::new(ReceiverStream::new(receive));
        add_exporter(request.metadata_mut(), exporter)?;
        for (name, value) in about {
            // A value that no header can hold is left out: the bytes are what the client wants.
            let name = MetadataKey::from_bytes(format!("exporter-md-{name}").as_bytes());
            if let (Ok(name), Ok(value)) = (name, value.parse()) {
                request.metadata_mut().insert(name, value);
            }
        }
        let mut client = FileSendClient::new(self.channel.clone());
        let sending = self.runtime.spawn(async move {
            let mut answers = client.diff_copy(request).await?.into_inner();
            while answers.message().await?.is_some() {}
            Ok::<(), Status>(())
        });
        let mut writer = io::BufWriter::with_capacity(PIECE, Pieces(send));
        let written = write(&mut writer).and_then(|()| Ok(writer.flush()?));
        match &written {
            Ok(()) => drop(writer),
            // The client must not take half a file for a whole one.
            Err(_) => sending.abort(),
        }
        match self.block(sending) {
            Ok(Err(status)) => Err(said(&status)),
            _ => written,
        }
    }

    /// Sends the client the files of a directory, as the result of the exporter of that number. Returns their
    /// size in bytes.
    ///
    /// # Errors
    ///
    /// The client's words; a file that cannot be read.
    pub fn send_directory(&self, exporter: usize, directory: &Path) -> Result<u64> {
        let (send, receive) = mpsc::channel::<Packet>(64);
        let mut request = Request::new(ReceiverStream::new(receive));
        add_exporter(request.metadata_mut(), exporter)?;
        // Names and numbers of the files whose bytes the client may ask for.
        let (listed, list) = std::sync::mpsc::channel::<(u32, PathBuf)>();
        let (top, sender) = (directory.to_path_buf(), send.clone());
        let walking = std::thread::Builder::new().name("send files".to_string()).spawn(move || {
            let mut walk = Walk { top, next: 0, listed, send: sender, links: BTreeMap::new() };
            walk.directory(Path::new("")).and_then(|()| walk.send(Packet::default()))
        })?;
        // A client answers only once it has got something, so the walk begins before.
        let client = DirectorySendClient::new(self.channel.clone());
        let mut client = client.max_decoding_message_size(MESSAGE_SIZE_MAX);
        let answer = self.block(client.diff_copy(request)).map_err(|status| said(&status))?;
        let mut packets = answer.into_inner();
        let (mut files, mut sent) = (BTreeMap::new(), 0);
        let outcome = loop {
            match self.block(packets.message()) {
                Err(status) => break Err(said(&status)),
                Ok(None) => break Ok(()),
                Ok(Some(packet)) => match packet.r#type() {
                    PacketType::PacketReq => {
                        files.extend(list.try_iter());
                        let Some(path) = files.remove(&packet.id) else {
                            break Err(anyhow::anyhow!("the client asked for file {}", packet.id));
                        };
                        match content(&send, packet.id, &directory.join(path)) {
                            Ok(size) => sent += size,
                            Err(error) => break Err(error),
                        }
                    }
                    PacketType::PacketFin => {
                        let end = Packet { r#type: PacketType::PacketFin.into(), ..Packet::default() };
                        // The client may have ended already.
                        let _ = send.blocking_send(end);
                        break Ok(());
                    }
                    PacketType::PacketErr => {
                        break Err(anyhow::anyhow!(
                            "the client cannot take the files: {}",
                            String::from_utf8_lossy(&packet.data)
                        ));
                    }
                    _ => {}
                },
            }
        };
        drop((packets, send));
        match walking.join() {
            Ok(walked) => outcome.and(walked).map(|()| sent),
            Err(_) => bail!("the directory cannot be read"),
        }
    }
}

/// Writes into messages.
struct Pieces(mpsc::Sender<BytesMessage>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = &bytes[..bytes.len().min(PIECE)];
        let message = BytesMessage { data: piece.to_vec() };
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the client takes no more");
        self.0.blocking_send(message).map_err(gone)?;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sends the bytes of a file; returns how many.
fn content(send: &mpsc::Sender<Packet>, id: u32, path: &Path) -> Result<u64> {
    let mut sent = 0;
    let mut file = File::open(path).with_context(|| format!("read {}", path.display()))?;
    loop {
        let mut data = vec![0; PIECE];
        let length = file.read(&mut data).with_context(|| format!("read {}", path.display()))?;
        data.truncate(length);
        let packet = Packet { r#type: PacketType::PacketData.into(), id, data, ..Packet::default() };
        send.blocking_send(packet).ok().context("the client takes no more")?;
        if length == 0 {
            return Ok(sent);
        }
        sent += length as u64;
    }
}

/// Describes the files of a directory in the protocol's order.
struct Walk {
    top: PathBuf,
    next: u32,
    listed: std::sync::mpsc::Sender<(u32, PathBuf)>,
    send: mpsc::Sender<Packet>,
    /// The first path of files with several names, by device and number.
    links: BTreeMap<(u64, u64), PathBuf>,
}

impl Walk {
    fn send(&mut self, packet: Packet) -> Result<()> {
        self.send.blocking_send(packet).ok().context("the client takes no more")
    }

    fn directory(&mut self, directory: &Path) -> Result<()> {
        let open = self.top.join(directory);
        let doing = || format!("read {}", open.display());
        let mut names: Vec<OsString> = Vec::new();
        for entry in std::fs::read_dir(&open).with_context(doing)? {
            names.push(entry.with_context(doing)?.file_name());
        }
        names.sort_unstable();
        for name in names {
            let path = directory.join(name);
            let whole = self.top.join(&path);
            let found = whole.symlink_metadata().with_context(|| format!("read {}", whole.display()))?;
            self.describe(&path, &found)?;
            if found.is_dir() {
                self.directory(&path)?;
            }
        }
        Ok(())
    }

    fn describe(&mut self, path: &Path, found: &Metadata) -> Result<()> {
        let text = |path: &Path| String::from_utf8_lossy(path.as_os_str().as_bytes()).into_owned();
        let mut stat = Stat {
            path: text(path),
            mode: mode_for_go(found.mode()),
            uid: found.uid(),
            gid: found.gid(),
            mod_time: found.mtime() * 1_000_000_000 + found.mtime_nsec(),
            ..Stat::default()
        };
        let id = self.next;
        self.next += 1;
        if found.is_symlink() {
            stat.linkname = text(&std::fs::read_link(self.top.join(path))?);
        } else if found.is_file() {
            let file = (found.dev(), found.ino());
            match self.links.get(&file).filter(|_| found.nlink() > 1) {
                Some(first) => stat.linkname = text(first),
                None => {
                    stat.size = i64::try_from(found.size()).context("a file is too large")?;
                    self.links.insert(file, path.to_path_buf());
                    // Nobody asks any more once the sender has ended.
                    let _ = self.listed.send((id, path.to_path_buf()));
                }
            }
        }
        self.send(Packet { r#type: PacketType::PacketStat.into(), stat: Some(stat), ..Packet::default() })
    }
}
