import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { backingMap, DeviceIoctl, NotifyCode, Opcode, type RequestRecord } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { answerRequest, nextRequest, openBody } from '../lib/raw-server.ts';

/** The number that the server's successor gives to the one file that it opens. */
const HANDLE = 7n;

/** A second process that has the device, as a server that restarts itself would keep it. */
async function successorOf(
  guest: TestGuest,
  fuse: FuseMount,
): Promise<{ successor: Client; device: number }> {
  const successor = await guest.client();
  return { successor, device: await fuse.server.lendDevice(successor) };
}

/** A server that has died with an OPEN read and not answered, and who has its device. */
interface Orphaned extends AsyncDisposable {
  readonly successor: Client;
  readonly device: number;
  /** Settles when the OPEN is answered. */
  readonly opening: Promise<number>;
  readonly request: RequestRecord;
}

async function orphanedOpen(guest: TestGuest, client: Client, fuse: FuseMount): Promise<Orphaned> {
  await client.writeFile({ path: fuse.backing('f'), data: 'from the backing file' });
  const { successor, device } = await successorOf(guest, fuse);
  const hold = await fuse.hold('OPEN');
  const opening = client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  opening.catch(() => undefined);
  const request = await hold.arrived();
  await fuse.server.kill('SIGKILL');
  return {
    successor,
    device,
    opening,
    request,
    [Symbol.asyncDispose]: () => successor[Symbol.asyncDispose](),
  };
}

/** Registers a file and answers an OPEN with it. */
async function answerOpen(
  guest: TestGuest,
  successor: Client,
  how: { readonly device: number; readonly unique: bigint; readonly path: string },
): Promise<string> {
  const { device, unique, path } = how;
  const file = await successor.open({ path, flags: 'O_RDWR' });
  const request = DeviceIoctl.BACKING_OPEN;
  const { ret: id } = await successor.ioctl({ fd: device, request, arg: backingMap(file) });
  await successor.close({ fd: file });
  const body = openBody(HANDLE, guest.expected.passthroughFlag, id);
  return answerRequest(successor, device, { unique, body });
}

/** Answers what the last close of a file sends: FLUSH, and RELEASE. */
async function answerClose(successor: Client, device: number, closing: Promise<unknown>): Promise<number[]> {
  const flush = await nextRequest(successor, device);
  await answerRequest(successor, device, flush);
  await closing;
  const release = await nextRequest(successor, device);
  await answerRequest(successor, device, release);
  return [flush.opcode, release.opcode];
}

guestTest(
  'who the device was handed over to answers an open that the dead server left, in passthrough mode (H11)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off' });
    await using client = await guest.client();
    await using orphaned = await orphanedOpen(guest, client, fuse);
    const { successor, device, opening } = orphaned;
    const { unique } = orphaned.request;

    const path = fuse.backing('f');
    t.is(await answerOpen(guest, successor, { device, unique: BigInt(unique), path }), 'ok');
    const fd = await opening;
    t.is(text(await client.pread({ fd, count: 100, offset: 0 })), 'from the backing file');
    const closed = await answerClose(successor, device, client.close({ fd }));
    t.deepEqual(closed, [Opcode.FLUSH, Opcode.RELEASE], 'no READ came before');
  },
);

guestTest(
  'what the dead server had read and not answered is sent again to its successor, who passes it through (H11)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off' });
    await using client = await guest.client();
    await using orphaned = await orphanedOpen(guest, client, fuse);
    const { successor, device, opening } = orphaned;
    const { unique, nodeid } = orphaned.request;

    // A notification: no request's number, and its code where an answer has the error.
    const resend = await answerRequest(successor, device, { unique: 0n, error: NotifyCode.RESEND });
    t.is(resend, guest.expected.resend);
    if (resend !== 'ok') {
      t.is(await answerRequest(successor, device, { unique: BigInt(unique), error: -13 }), 'ok');
      await t.throwsAsync(opening, { message: /EACCES/ });
      return;
    }
    const again = await nextRequest(successor, device);
    t.like(again, { opcode: Opcode.OPEN, nodeid: BigInt(nodeid), isResent: true });
    t.is(BigInt.asUintN(63, again.unique), BigInt(unique), 'the same request');
    const path = fuse.backing('f');
    t.is(await answerOpen(guest, successor, { device, unique: again.unique, path }), 'ok');
    const fd = await opening;
    t.is(text(await client.pread({ fd, count: 100, offset: 0 })), 'from the backing file');
    const closed = await answerClose(successor, device, client.close({ fd }));
    t.deepEqual(closed, [Opcode.FLUSH, Opcode.RELEASE], 'no READ came before');
  },
);

guestTest('what is sent again comes before what no server has read yet (H11)', async (t, guest) => {
  guest.needs(guest.expected.resend === 'ok', 'FUSE_NOTIFY_RESEND');
  await using fuse = await guest.mountFuse({ passthrough: 'off', entryValidS: 1000 });
  await using client = await guest.client();
  const names = ['first', 'second', 'third'];
  for (const name of names) {
    await client.writeFile({ path: fuse.backing(name), data: name });
    await client.stat({ path: fuse.file(name) });
  }
  const { successor, device } = await successorOf(guest, fuse);
  await using _successor = successor;
  await fuse.server.kill('SIGKILL');
  const asking: Promise<string>[] = [];
  const ask = async (name: string): Promise<void> => {
    const asked = client.errno.stat({ path: fuse.file(name) });
    asked.catch(() => undefined);
    asking.push(asked);
    t.is(await fuse.untilWaiting(asking.length), asking.length, `that for the ${name} waits`);
  };
  await ask('first');
  await ask('second');
  const read = [await nextRequest(successor, device), await nextRequest(successor, device)];
  await ask('third');
  const resend = { unique: 0n, error: NotifyCode.RESEND };
  t.is(await answerRequest(successor, device, resend), 'ok');
  const again = [];
  for (const _name of names) {
    const request = await nextRequest(successor, device);
    again.push(request);
    t.is(await answerRequest(successor, device, { ...request, error: -5 }), 'ok');
  }
  t.deepEqual(
    again.map(({ isResent }) => isResent),
    [true, true, false],
    'what had been read, then what had not',
  );
  const numbers = (requests: readonly { readonly unique: bigint }[]): string[] =>
    requests.map(({ unique }) => String(BigInt.asUintN(63, unique))).sort();
  t.deepEqual(numbers(again.slice(0, 2)), numbers(read), 'the same requests');
  t.deepEqual(await Promise.all(asking), ['EIO', 'EIO', 'EIO']);
});

guestTest('what is sent again more than once is marked each time (H11)', async (t, guest) => {
  guest.needs(guest.expected.resend === 'ok', 'FUSE_NOTIFY_RESEND');
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  const { successor, device } = await successorOf(guest, fuse);
  await using _successor = successor;
  await fuse.server.kill('SIGKILL');
  const asking = client.errno.stat({ path: fuse.file('none') });
  asking.catch(() => undefined);
  const first = await nextRequest(successor, device);
  t.false(first.isResent, 'the first time');
  let last = first;
  for (const time of ['once', 'twice', 'three times']) {
    const resend = { unique: 0n, error: NotifyCode.RESEND };
    t.is(await answerRequest(successor, device, resend), 'ok');
    last = await nextRequest(successor, device);
    t.true(last.isResent, `sent again ${time}: it says so`);
    t.is(BigInt.asUintN(63, last.unique), first.unique, `sent again ${time}: the same request`);
  }
  t.is(await answerRequest(successor, device, { unique: last.unique, error: -5 }), 'ok');
  t.is(await asking, 'EIO');
});
