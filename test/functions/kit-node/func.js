// The test function in JavaScript: see ../kits.go for what it does.
const fdk = require('@fnproject/fdk')

fdk.handle(async (input, ctx) => {
  const ask = input || {}
  if (ask.print) console.log(ask.print)
  if (ask.fail) throw new Error('the test wants it to fail')
  if (ask.sleepMs) await new Promise((done) => setTimeout(done, ask.sleepMs))
  const answer = { language: 'node', echo: ask.echo, callID: ctx.callID }
  if (ctx.getHeader('Fn-Intent') === 'httprequest') {
    const gateway = ctx.httpGateway
    answer.method = gateway.method
    answer.url = gateway.requestURL
    answer.client = gateway.getHeader('X-Client')
    if (ask.status) gateway.statusCode = ask.status
    gateway.setResponseHeader('X-Language', 'node')
  } else {
    ctx.setResponseHeader('X-Language', 'node')
  }
  return answer
})
