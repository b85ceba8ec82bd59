// The hello-node function answers {"name":"Ada"} with {"message":"Hello Ada"}.
const fdk = require('@fnproject/fdk')

fdk.handle((input) => {
  // A body that is empty or no JSON object greets the world.
  const name = (input && input.name) || 'World'
  return { message: 'Hello ' + name }
})
