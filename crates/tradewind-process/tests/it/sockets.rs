use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
};

use tradewind_process::{Exit, inherited_listeners};

use crate::{DEADLINE, Ended, again, in_time, log_of, plays_child, sh};

const TWO: &str = "sockets::two_sockets_are_passed_and_usable";

/// As the child: answers one connection on each socket with the socket's number.
#[tokio::test]
async fn two_sockets_are_passed_and_usable() {
    if plays_child() {
        let listeners = inherited_listeners().unwrap();
        assert_eq!(listeners.len(), 2);
        for (number, listener) in (0..).zip(&listeners) {
            listener.accept().unwrap().0.write_all(&[number]).unwrap();
        }
        assert!(inherited_listeners().unwrap().is_empty(), "handed out twice");
        let grandchild = log_of(sh("echo ${LISTEN_PID-none} ${LISTEN_FDS-none}; ls /proc/$$/fd")).await;
        assert_eq!(grandchild, "none none\n0\n1\n2\n");
        return;
    }
    let listeners = [TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap()];
    let addresses = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
    let [first, second] = listeners;
    let spawn = again(TWO).listener(first).listener(second);
    // Twice: the sockets stay here, and serve the next process too.
    for _ in 0..2 {
        let process = spawn.spawn().unwrap();
        let _ended = Ended(process.clone());
        for (number, address) in (0..).zip(addresses) {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            let mut answer = [9];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(answer, [number]);
        }
        assert_eq!(in_time(process.exited()).await, Exit::Code(0));
    }
}

#[tokio::test]
async fn a_child_is_told_its_own_pid() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let output = log_of(sh("echo $LISTEN_FDS $((LISTEN_PID - $$)); ls /proc/$$/fd").listener(listener)).await;
    let (announced, descriptors) = output.split_once('\n').unwrap();
    assert_eq!(announced, "1 0");
    // A shell may keep a descriptor of its own from 10 up.
    let low: Vec<_> = descriptors.lines().filter(|number| number.len() == 1).collect();
    assert_eq!(low, ["0", "1", "2", "3"]);
}

#[tokio::test]
async fn a_program_that_is_missing_is_said_though_sockets_were_to_be_passed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let spawn = tradewind_process::Spawn::new("/no/such/program").listener(listener);
    assert_eq!(spawn.spawn().unwrap_err().to_string(), "cannot start /no/such/program");
}
