import test from 'ava';
import ssh2 from 'ssh2';
import { keyPair, makeMachineKeys } from './ssh-keys.ts';

test('SSH keys: a pair that cannot be read is not used', (t) => {
  const good = ssh2.utils.parseKey(keyPair().private);
  t.false(good instanceof Error);
  const readable = keyPair();
  const made = [{ private: readable.private.replaceAll(/[A-Z]/g, 'x'), public: '' }, readable];
  t.is(
    keyPair(() => made.shift() ?? readable),
    readable,
  );
  t.is(made.length, 0);
});

test('SSH keys: host and client differ, and the public halves fit', (t) => {
  const keys = makeMachineKeys();
  t.not(keys.clientPrivateKey, keys.hostPrivateKey);
  const host = ssh2.utils.parseKey(keys.hostPrivateKey);
  if (host instanceof Error) throw host;
  t.is([host].flat()[0]?.getPublicSSH().toString('base64'), keys.hostKey);
  t.regex(keys.authorizedKey, /^ssh-ed25519 [A-Za-z0-9+/=]+ fusegate$/);
});
