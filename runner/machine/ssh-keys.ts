import ssh2 from 'ssh2';

/** Two fresh Ed25519 key pairs: who the guest is and who may come in. Made for one machine, never stored. */
export interface MachineKeys {
  /** OpenSSH private key of the client. */
  readonly clientPrivateKey: string;
  /** Line of authorized_keys(5) that lets the client in. */
  readonly authorizedKey: string;
  readonly hostPrivateKey: string;
  /** The host's public key in SSH wire format, base64. */
  readonly hostKey: string;
}

interface KeyPair {
  readonly private: string;
  readonly public: string;
}

export function makeMachineKeys(): MachineKeys {
  const client = keyPair();
  const host = keyPair();
  return {
    clientPrivateKey: client.private,
    authorizedKey: client.public.trim(),
    hostPrivateKey: host.private,
    hostKey: host.public.split(' ')[1] ?? '',
  };
}

/**
 * One pair in 200 that ssh2 makes is one that neither it nor sshd can read (ssh2 1.17: `Malformed OpenSSH
 * private key`); such a pair is not used.
 */
export function keyPair(
  make: () => KeyPair = () => ssh2.utils.generateKeyPairSync('ed25519', { comment: 'fusegate' }),
): KeyPair {
  for (;;) {
    const pair = make();
    if (!(ssh2.utils.parseKey(pair.private) instanceof Error)) return pair;
  }
}
