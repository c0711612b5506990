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

export function makeMachineKeys(): MachineKeys {
  const client = ssh2.utils.generateKeyPairSync('ed25519', { comment: 'fusegate' });
  const host = ssh2.utils.generateKeyPairSync('ed25519', { comment: 'fusegate' });
  return {
    clientPrivateKey: client.private,
    authorizedKey: client.public.trim(),
    hostPrivateKey: host.private,
    hostKey: host.public.split(' ')[1] ?? '',
  };
}
