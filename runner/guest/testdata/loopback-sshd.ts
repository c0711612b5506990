// ssh2's own server on the loopback interface in place of a guest, with an agent that the test plays.
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import ssh2, { type Connection, type ServerChannel } from 'ssh2';
import type { SshEndpoint } from '#runner/machine/machine.ts';
import { makeMachineKeys } from '#runner/machine/ssh-keys.ts';

export interface Loopback extends AsyncDisposable {
  readonly endpoint: SshEndpoint;
  /** Breaks every connection, as a machine does that is gone. */
  cut(): void;
}

export type OnCommand = (command: string, channel: ServerChannel) => void;

export async function loopbackSshd(onCommand: OnCommand): Promise<Loopback> {
  const keys = makeMachineKeys();
  const allowed = Buffer.from(keys.authorizedKey.split(' ')[1] ?? '', 'base64');
  const connections = new Set<Connection>();
  const server = new ssh2.Server({ hostKeys: [keys.hostPrivateKey] }, (connection) => {
    connections.add(connection);
    connection.on('error', () => undefined);
    connection.on('authentication', (context) => {
      if (context.method === 'publickey' && context.key.data.equals(allowed)) context.accept();
      else context.reject(['publickey']);
    });
    connection.on('session', (accept) => {
      accept().on('exec', (start, _reject, { command }) => onCommand(command, start()));
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const cut = (): void => {
    for (const connection of connections) {
      (connection as unknown as { _sock: { destroy(): void } })._sock.destroy();
    }
  };
  return {
    endpoint: {
      host: '127.0.0.1',
      port: (server.address() as AddressInfo).port,
      username: 'root',
      privateKey: keys.clientPrivateKey,
      hostKey: keys.hostKey,
    },
    cut,
    async [Symbol.asyncDispose]() {
      cut();
      server.close();
      await once(server, 'close');
    },
  };
}
