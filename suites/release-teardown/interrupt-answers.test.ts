import { eventually } from '../lib/eventually.ts';
import { NotifyCode, Opcode } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { type LentDevice, lendDevice, polled } from '../lib/lent-device.ts';
import { answerRequest, INTERRUPT, nextRequest, type RawRequest } from '../lib/raw-server.ts';

/** What a server may answer to an INTERRUPT, and when; and readers and callers that are killed while they wait. */

const [EIO, EAGAIN, ENOSYS] = [-5, -11, -38];
const ROOM = 2 ** 21;

async function bench(guest: TestGuest, stack: AsyncDisposableStack): Promise<LentDevice> {
  const on = await lendDevice(guest, stack);
  await on.takeOver();
  return on;
}

interface Interrupted {
  readonly request: RawRequest;
  /** Answers it, and lets the caller go on. @returns what the call gave. */
  readonly end: (unique?: bigint) => Promise<string>;
}

/** A request that the server has, whose caller then got a signal. The INTERRUPT waits to be read. */
async function interrupted(on: LentDevice, name = 'none'): Promise<Interrupted> {
  const { client, server, device, fuse } = on;
  const asking = client.errno.stat({ path: fuse.file(name) });
  asking.catch(() => undefined);
  const request = await nextRequest(server, device);
  const stopped = client.kill('SIGSTOP');
  if ((await polled(on, 'in|out')) !== 'in|out') throw new Error('no INTERRUPT came');
  return {
    request,
    end: async (unique = request.unique) => {
      const errno = await answerRequest(server, device, { unique, error: EIO });
      if (errno !== 'ok') throw new Error(`the answer was refused with ${errno}`);
      await stopped;
      await client.kill('SIGCONT');
      return asking;
    },
  };
}

/** Answers to an INTERRUPT that has been read; whether the kernel takes them, and sends another one. */
const ANSWERS: readonly {
  readonly what: string;
  readonly error: number;
  readonly body?: Uint8Array;
  readonly errno: string;
  readonly again: boolean;
}[] = [
  { what: 'success', error: 0, errno: 'ok', again: false },
  { what: 'EIO', error: EIO, errno: 'ok', again: false },
  {
    what: 'EAGAIN with more behind it',
    error: EAGAIN,
    body: new Uint8Array(8),
    errno: 'EINVAL',
    again: false,
  },
  {
    what: 'ENOSYS with more behind it',
    error: ENOSYS,
    body: new Uint8Array(1),
    errno: 'EINVAL',
    again: false,
  },
  { what: 'EAGAIN', error: EAGAIN, errno: 'ok', again: true },
];

guestTest(
  'an INTERRUPT is sent once more if it is answered with EAGAIN, and nothing else (H10)',
  async (t, guest) => {
    await using stack = new AsyncDisposableStack();
    const on = await bench(guest, stack);
    const { server, device } = on;
    for (const { what, error, body, errno, again } of ANSWERS) {
      const { request, end } = await interrupted(on);
      const first = await nextRequest(server, device);
      t.is(first.opcode, Opcode.INTERRUPT);
      t.is(first.unique, request.unique | INTERRUPT, 'its number');
      const answer = { unique: first.unique, error };
      t.is(
        await answerRequest(server, device, body === undefined ? answer : { ...answer, body }),
        errno,
        what,
      );
      t.is(await server.poll({ fd: device }), again ? 'in|out' : 'out', `${what}: whether another one waits`);
      if (again) t.is((await nextRequest(server, device)).unique, first.unique, `${what}: the same again`);
      t.is(await end(), 'EIO', `${what}: the request is answered all the same`);
      t.is(await answerRequest(server, device, answer), 'ENOENT', `${what}: an INTERRUPT of no request`);
    }
  },
);

guestTest(
  'an INTERRUPT that was never sent is not sent again, and one that waits is not there twice (H10)',
  async (t, guest) => {
    await using stack = new AsyncDisposableStack();
    const on = await bench(guest, stack);
    const { client, fuse, server, device } = on;
    const asking = client.errno.stat({ path: fuse.file('none') });
    const { unique } = await nextRequest(server, device);
    const early = { unique: unique | INTERRUPT, error: EAGAIN };
    t.is(await answerRequest(server, device, early), 'EINVAL', 'of a request that nobody has interrupted');
    t.is(await server.poll({ fd: device }), 'out', 'and none is sent');
    t.is(await answerRequest(server, device, { unique, error: EIO }), 'ok');
    t.is(await asking, 'EIO');

    const { request, end } = await interrupted(on);
    const unread = { unique: request.unique | INTERRUPT, error: EAGAIN };
    for (const time of ['once', 'twice'])
      t.is(await answerRequest(server, device, unread), 'ok', `answered ${time} before it is read`);
    t.is((await nextRequest(server, device)).opcode, Opcode.INTERRUPT);
    t.is(await server.poll({ fd: device }), 'out', 'it was there once');
    t.is(await end(), 'EIO');
  },
);

guestTest(
  'a request that is sent anew comes before its INTERRUPT, which waited to be read (H10)',
  async (t, guest) => {
    guest.needs(guest.expected.resend === 'ok', 'FUSE_NOTIFY_RESEND');
    await using stack = new AsyncDisposableStack();
    const on = await bench(guest, stack);
    const { server, device } = on;
    const { request, end } = await interrupted(on);
    t.is(await answerRequest(server, device, { unique: 0n, error: NotifyCode.RESEND }), 'ok');
    const again = await nextRequest(server, device);
    t.is(again.opcode, request.opcode, 'the request');
    t.true(again.isResent);
    const interrupt = await nextRequest(server, device);
    t.is(interrupt.opcode, Opcode.INTERRUPT, 'and then its INTERRUPT');
    t.is(interrupt.unique, again.unique | INTERRUPT);
    t.is(await server.poll({ fd: device }), 'out', 'nothing else');
    t.is(await end(again.unique), 'EIO');
  },
);

guestTest('on a connection that was aborted nothing is sent anew', async (t, guest) => {
  guest.needs(guest.expected.resend === 'ok', 'FUSE_NOTIFY_RESEND');
  await using stack = new AsyncDisposableStack();
  const { client, fuse, server, device } = await bench(guest, stack);
  const asking = client.errno.stat({ path: fuse.file('none') });
  await nextRequest(server, device);
  await fuse.abort();
  t.is(await asking, 'ECONNABORTED');
  t.is(await answerRequest(server, device, { unique: 0n, error: NotifyCode.RESEND }), 'ok');
  t.is(await server.errno.read({ fd: device, count: ROOM }), 'ENODEV');
  t.is(await fuse.waiting(), 0);
});

guestTest('who waits for a request at the device can be killed', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await using reader = await guest.client();
  const { device, fd } = await fuse.server.cloneDevice();
  const own = await reader.adoptFd({ pid: fuse.server.pid, fd });
  await fuse.server.closeDevice(device);
  await reader.fcntl({ fd: own, cmd: 'F_SETFL', arg: 0 });
  const reading = reader.read({ fd: own, count: ROOM });
  reading.catch(() => undefined);
  const waits = await eventually(
    () => guest.where(reader.pid),
    (where) => where.includes('fuse_dev_do_read'),
  );
  t.regex(waits, /fuse_dev_do_read/);
  t.like(await reader.kill('SIGKILL'), { signal: 'SIGKILL' });
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  t.is(
    await client.errno.stat({ path: fuse.file('f') }),
    'ok',
    'the request comes to the server that is left',
  );
});

guestTest(
  'INTERRUPTs come to the server in the order in which they were to be sent (H10)',
  async (t, guest) => {
    await using stack = new AsyncDisposableStack();
    const on = await bench(guest, stack);
    const { server, device } = on;
    const all: (Interrupted & { readonly number: bigint })[] = [];
    for (let nth = 0; nth < 2; nth++) {
      const one = await interrupted({ ...on, client: stack.use(await guest.client()) }, `none${nth}`);
      all.push({ ...one, number: (await nextRequest(server, device)).unique });
    }
    // The kernel sends it once more at once.
    for (const { number } of all) {
      t.is(await answerRequest(server, device, { unique: number, error: EAGAIN }), 'ok');
    }
    const came: bigint[] = [];
    for (const _each of all) came.push((await nextRequest(server, device)).unique);
    t.deepEqual(
      came,
      all.map(({ number }) => number),
    );
    for (const { end } of all) t.is(await end(), 'EIO');
  },
);
