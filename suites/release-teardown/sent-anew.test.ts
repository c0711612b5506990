import type { Client } from '../lib/client.ts';
import { NotifyCode, Opcode } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { answerRequest, INTERRUPT, nextRequest, type RawRequest } from '../lib/raw-server.ts';
import { showsAsStopped } from '../lib/where-it-waits.ts';

/** A request that the server has had sent anew (FUSE_NOTIFY_RESEND) and not read again is one that nobody has read. */

const EIO = -5;

interface SentAnew {
  readonly server: Client;
  readonly device: number;
  readonly client: Client;
  /** Settles when the request is answered. */
  readonly asking: Promise<string>;
  /** As it was read the first time. */
  readonly request: RawRequest;
  readonly waiting: () => Promise<number | null>;
}

/** A request that was read, and waits in the queue once more. */
async function sentAnew(guest: TestGuest, stack: AsyncDisposableStack): Promise<SentAnew> {
  guest.needs(guest.expected.resend === 'ok', 'FUSE_NOTIFY_RESEND');
  const fuse = stack.use(await guest.mountFuse());
  const client = stack.use(await guest.client());
  const server = stack.use(await guest.client());
  const device = await fuse.server.lendDevice(server);
  await fuse.server.kill('SIGKILL');
  const asking = client.errno.stat({ path: fuse.file('none') });
  asking.catch(() => undefined);
  const request = await nextRequest(server, device);
  const errno = await answerRequest(server, device, { unique: 0n, error: NotifyCode.RESEND });
  if (errno !== 'ok') throw new Error(`FUSE_NOTIFY_RESEND: ${errno}`);
  return { server, device, client, asking, request, waiting: () => fuse.untilWaiting(0) };
}

guestTest(
  'a signal to the caller of a request that is sent anew is told to the server behind the request (H10, H11)',
  async (t, guest) => {
    await using stack = new AsyncDisposableStack();
    const { server, device, client, asking, request } = await sentAnew(guest, stack);
    t.is(await server.poll({ fd: device }), 'in|out', 'the request is to be read again');
    const stopped = client.kill('SIGSTOP');
    t.true(await showsAsStopped(guest, client), 'the caller has the signal');
    const again = await nextRequest(server, device);
    t.is(again.opcode, request.opcode, 'the request comes first');
    t.true(again.isResent, 'which is marked');
    const interrupt = await nextRequest(server, device);
    t.is(interrupt.opcode, Opcode.INTERRUPT, 'and then its INTERRUPT');
    t.is(interrupt.unique, again.unique | INTERRUPT);
    t.is(await server.poll({ fd: device }), 'out', 'it is told once');
    t.is(await answerRequest(server, device, { unique: again.unique, error: EIO }), 'ok');
    await stopped;
    await client.kill('SIGCONT');
    t.is(await asking, 'EIO');
  },
);

guestTest(
  'whoever is killed waits for no request that is sent anew and was not read again, and it is not sent then (H11)',
  async (t, guest) => {
    await using stack = new AsyncDisposableStack();
    const { server, device, client, request, waiting } = await sentAnew(guest, stack);
    t.is(await server.poll({ fd: device }), 'in|out', 'the request is to be read again');
    const gone = await client.kill('SIGKILL').catch((error: unknown) => String(error));
    t.like(gone, { signal: 'SIGKILL' }, 'the process ends');
    t.is(await waiting(), 0, 'nobody waits any more');
    t.is(await server.poll({ fd: device }), 'out', 'there is nothing to be read');
    const late = await answerRequest(server, device, { unique: request.unique, error: EIO });
    t.is(late, 'ENOENT', 'an answer to it as it was read the first time');
  },
);
