import { text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';
import { openErrno } from '../lib/open-errno.ts';

/** An answer to OPEN: header with this length and error, and so many bytes behind the header. */
function openAnswer(length: number, error: number, bodyBytes: number): Uint8Array {
  const bytes = new Uint8Array(16 + bodyBytes);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, length, true);
  view.setInt32(4, error, true);
  return bytes;
}

/**
 * `caller`: what open(2) gives. The kernel looks at header and error before it looks for the request, which then
 * waits on for its real answer; an answer of the wrong size has used the request up.
 */
const MALFORMED = {
  'is too short': { bytes: openAnswer(24, 0, 8), caller: 'EIO' },
  'is too long': { bytes: openAnswer(48, 0, 32), caller: 'EIO' },
  'has an error and a body': { bytes: openAnswer(32, -13, 16), caller: 'EIO' },
  'has an error that is none': { bytes: openAnswer(16, -600, 0), caller: 'ok' },
  'has a positive error': { bytes: openAnswer(16, 5, 0), caller: 'ok' },
  'lies about its length': { bytes: openAnswer(64, 0, 16), caller: 'ok' },
} as const;

for (const [what, { bytes, caller }] of Object.entries(MALFORMED)) {
  guestTest(`an answer to OPEN that ${what} is refused, and the mount works on (B24)`, async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const hold = await fuse.hold({ opcode: 'OPEN', path: '/f' });
    const opening = openErrno(client, fuse.file('f'));
    const request = await hold.arrived();
    const named = Uint8Array.from(bytes);
    new DataView(named.buffer).setBigUint64(8, BigInt(request.unique), true);
    t.is(await fuse.server.writeDevice(named), 'EINVAL');
    if (caller === 'EIO') t.is(await opening, 'EIO', 'the caller is told at once');
    await hold.stop();
    // The server's own answer: taken where the request still waits for one.
    await hold.release(request);
    t.is(await opening, caller, 'what the caller is told');
    const [{ reply } = { reply: null }] = await fuse.requests('OPEN');
    t.is(reply?.refused, caller === 'ok' ? null : 'ENOENT', 'the right answer after the wrong one');
    t.is(text(await client.readFile({ path: fuse.file('f') })), 'contents');
    t.deepEqual(await fuse.dataRequests(), []);
  });
}

guestTest('an answer to a request that does not exist is refused with ENOENT (B24)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  const stray = openAnswer(32, 0, 16);
  new DataView(stray.buffer).setBigUint64(8, 0x7fff_fff0n, true);
  t.is(await fuse.server.writeDevice(stray), 'ENOENT');
});

guestTest(
  'an answer may have the error 511, and none of those that are the kernel’s own (B24)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    for (const error of [-512, -516, -4095, -(2 ** 31)]) {
      const hold = await fuse.hold('LOOKUP');
      const asking = client.errno.stat({ path: fuse.file(`none${error}`) });
      const request = await hold.arrived();
      const answer = (of: number): Promise<string> => {
        const named = openAnswer(16, of, 0);
        new DataView(named.buffer).setBigUint64(8, BigInt(request.unique), true);
        return fuse.server.writeDevice(named);
      };
      t.is(await answer(error), 'EINVAL', `an answer with the error ${-error}`);
      t.is(await fuse.waiting(), 1, 'the request waits on');
      t.is(await answer(-511), 'ok', 'an answer with the error 511');
      t.regex(await asking, /511/, 'which is what the caller is told');
      await hold.stop();
      await hold.release(request);
    }
  },
);
